// CrashTests: kill -9 at random moments under load, again and again on one directory. Every acknowledged write is there
// afterwards, revisions neither repeat nor go back. CAIRN_CRASH_ROUNDS for more rounds, CAIRN_CRASH_SEED for other moments.
using System;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class CrashTests
{
    [Fact]
    public async Task Kill_AtRandomMomentsUnderLoad_LosesNothingAcknowledged()
    {
        int rounds = Tools.Setting("CAIRN_CRASH_ROUNDS", 32);
        int seed = Tools.Setting("CAIRN_CRASH_SEED", 5);
        Random random = new(seed);
        using TempFolder folder = new();
        Writers writers = new("crash");
        for (int round = 0; round < rounds; round++)
        {
            await using ServerProcess server = ServerProcess.Launch(Tools.Cairn, folder["data"], null, "--snapshot-count=500");
            if (random.Next(5) == 0)
            {
                // Some die while they start: recovery itself must be repeatable.
                await Task.Delay(random.Next(1, 120));
                await server.KillHard();
                continue;
            }

            await server.WaitUntilServing();
            try
            {
                await writers.Check(server);
                int before = writers.Acknowledged;
                Task load = writers.Run(server, count: 6);
                await Writers.Until(() => writers.Acknowledged > before + 20 || load.IsCompleted);
                await Task.Delay(random.Next(1, 350));
                await server.KillHard();
                await load;
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"round {round}, seed {seed}: {e.Message}\n{server.Tail()}", e);
            }
        }

        Assert.True(writers.Acknowledged > rounds * 20, $"only {writers.Acknowledged} writes were acknowledged");

        // The last word is etcd's: it finds the same in the directory that died so often.
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["data"]);
        await writers.Check(cairn);
        string ours = await Keyspace.Describe(cairn);
        await cairn.Stop();
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["data"]);
        Assert.Equal(ours, await Keyspace.Describe(etcd));
    }
}
