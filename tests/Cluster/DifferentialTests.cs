// DifferentialTests: the same seeded stream of operations to Cairn and to a real etcd 3.5; every answer must be equal.
//
// Both members have the same identity, so even the ids in the headers are equal. Longer runs: CAIRN_DIFF_OPS=1000000
// CAIRN_DIFF_SEED=7. A failure prints seed, step, request and both answers.
//
// Where 3.6.14, whose behaviour Cairn follows, differs from the 3.5 at hand:
//   * sort_order / sort_target out of range: 3.6 answers 3 "invalid sort option" (Operations.UnknownSort, asked of Cairn only)
//   * HashKVResponse.hash_revision exists from 3.6 on
//   * HashKV(0) means the newest revision; but after a compaction at 0, which an empty store accepts once, etcd finds that
//     compaction's remembered hash under the number 0 and answers with it. Cairn does not, so the stream does not compact at 0
//   * a nested put under NOSPACE is refused from 3.5.33 / 3.6.14 on (no alarm is raised here; the transcripts cover it)
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class DifferentialTests
{
    private const int ReadsAtOnce = 8;

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task RandomOperations_SameStreamToBoth_AnswersAreEqual(int stream)
    {
        int seed = Tools.Setting("CAIRN_DIFF_SEED", 20261) * 100 + stream;
        int operations = Tools.Setting("CAIRN_DIFF_OPS", 24_000) / 2;
        using TempFolder folder = new();
        await using ServerProcess cairn = await ServerProcess.Cairn(folder["cairn"]);

        // The oracle's durability is not in question here, its speed is.
        await using ServerProcess etcd = await ServerProcess.Etcd(folder["etcd"], null, "--unsafe-no-fsync");
        Run run = new(cairn, etcd, seed);
        await run.Execute(operations);
        await run.CompareAll();

        // What Cairn wrote is what etcd would have written: etcd says so on Cairn's own directory.
        (long hash, _) = await cairn.HashKv();
        await cairn.Stop();
        await using ServerProcess back = await ServerProcess.Etcd(folder["cairn"]);
        Assert.Equal(hash, (await back.HashKv()).Hash);
    }

    /// <summary>One stream against one pair of servers.</summary>
    private sealed class Run(ServerProcess cairn, ServerProcess etcd, int seed)
    {
        private static readonly Answer s_none = new(-1, "none", []);
        private readonly Operations _operations = new(seed);
        private readonly Dictionary<string, int> _codes = [];
        private int _step;

        public async Task Execute(int count)
        {
            List<Operation> reads = [];
            while (_step < count)
            {
                Operation next = _operations.Next();
                if (next.IsRead)
                {
                    reads.Add(next);
                    if (reads.Count < ReadsAtOnce)
                    {
                        continue;
                    }
                }

                await Task.WhenAll(reads.Select(Both));
                _step += reads.Count;
                reads.Clear();
                if (!next.IsRead)
                {
                    await Both(next);
                    _step++;
                }
            }

            // A stream that mostly fails, or never does, tests nothing.
            Assert.True(_codes.GetValueOrDefault("0") > count / 2, $"seed {seed}: {Codes()}");
            Assert.True(_codes.Count >= 6, $"seed {seed}: {Codes()}");
        }

        public async Task CompareAll()
        {
            await Both(new Operation(Grpc.Range, new Pb().Data(1, [0]).Data(2, [0]).Bytes, IsRead: true));
            await Both(new Operation(Grpc.HashKv, [], IsRead: true));
            await Both(new Operation(Grpc.LeaseLeases, [], IsRead: true));
        }

        private string Codes() => string.Join(", ", _codes.Select(p => $"{p.Value} × {p.Key}"));

        private async Task Both(Operation operation)
        {
            if (operation.OnlySubjectExpects is not null)
            {
                if (!Tools.SubjectIsEtcd)
                {
                    Answer only = await Ask(cairn, operation);
                    Check(operation.OnlySubjectExpects == $"{only.Code} {only.Message}", operation, only, only);
                }

                return;
            }

            Task<Answer> ours = Ask(cairn, operation);
            Answer theirs = await Ask(etcd, operation);
            Answer our = await ours;
            Check(our.Code == theirs.Code, operation, our, theirs);

            // The text of a parse error (13) is the protobuf library's; 3.6 and 3.7 already differ there.
            Check(our.Code == 13 || our.Message == theirs.Message, operation, our, theirs);
            string outcome = our.Code == 0 ? "0" : $"{our.Code} {our.Message}";
            lock (_codes)
            {
                _codes[outcome] = _codes.GetValueOrDefault(outcome) + 1;
            }

            if (our.Code != 0)
            {
                return;
            }

            if (!our.Body.AsSpan().SequenceEqual(theirs.Body))
            {
                Check(Prepared(operation, our).SequenceEqual(Prepared(operation, theirs)), operation, our, theirs);
            }

            if (!operation.IsRead && operation.Method != Grpc.LeaseRevoke)
            {
                _operations.Revision = Math.Max(_operations.Revision, HeaderRevision(our.Body));
            }

            if (operation.Method == Grpc.Compact)
            {
                List<string> request = Schema.Lines("CompactionRequest", operation.Request);
                _operations.Accepted(Schema.Number(request, "revision"));
            }
        }

        private async Task<Answer> Ask(ServerProcess server, Operation operation)
        {
            try
            {
                return await server.Client.Call(operation.Method, operation.Request);
            }
            catch (Exception e) when (e is System.Net.Http.HttpRequestException or OperationCanceledException or System.IO.IOException)
            {
                throw new InvalidOperationException(
                    $"no answer from {server.Program}, running: {server.IsRunning}: {e.Message}\n{Describe(operation, s_none, s_none)}\n{server.Tail()}");
            }
        }

        /// <summary>The header is field 1 of every answer; decoding the rest of a large one would cost more than the call.</summary>
        private static long HeaderRevision(byte[] body) =>
            body.Length > 2 && body[0] == 0x0a ? Schema.Number(Schema.Lines("ResponseHeader", body.AsSpan(2, body[1])), "revision") : 0;

        private static List<string> Prepared(Operation operation, Answer answer)
        {
            List<string> lines = answer.Lines(operation.Method);
            if (operation.Method == Grpc.HashKv)
            {
                lines.RemoveAll(l => l.StartsWith("hash_revision ", StringComparison.Ordinal));
            }
            else if (operation.Method is Grpc.LeaseTimeToLive or Grpc.LeaseLeases)
            {
                // The remaining time is the clocks' own; attached keys and leases come in map order.
                lines.RemoveAll(l => l.StartsWith("TTL ", StringComparison.Ordinal));
                for (int i = 0; i < lines.Count; i++)
                {
                    int bracket = lines[i].IndexOf('[', StringComparison.Ordinal);
                    lines[i] = bracket < 0 ? lines[i] : lines[i][..bracket] + lines[i][lines[i].IndexOf(']', StringComparison.Ordinal)..];
                }

                lines.Sort(StringComparer.Ordinal);
            }
            else if (operation.Method is Grpc.Range or Grpc.Txn)
            {
                Ties.Neutralize(operation, lines);
            }

            return lines;
        }

        private void Check(bool holds, Operation operation, Answer our, Answer theirs)
        {
            if (!holds)
            {
                Assert.Fail(Describe(operation, our, theirs));
            }
        }

        private string Describe(Operation operation, Answer our, Answer theirs)
        {
            StringBuilder text = new();
            text.Append(CultureInfo.InvariantCulture, $"seed {seed}, step about {_step}, revision {_operations.Revision}, compacted {_operations.Compacted}\n");
            text.Append(operation.Method).Append(' ').Append(Convert.ToHexString(operation.Request.AsSpan(0, Math.Min(2000, operation.Request.Length)))).Append('\n');
            foreach (string line in Schema.Lines(Schema.Request(operation.Method), operation.Request).Take(60))
            {
                text.Append("  request: ").Append(line).Append('\n');
            }

            text.Append("cairn: ").Append(our).Append("\netcd:  ").Append(theirs).Append('\n');
            if (our.Code == 0 && theirs.Code == 0)
            {
                List<string> a = our.Lines(operation.Method), b = theirs.Lines(operation.Method);
                foreach (string line in a.Except(b).Take(20))
                {
                    text.Append("  cairn: ").Append(line).Append('\n');
                }

                foreach (string line in b.Except(a).Take(20))
                {
                    text.Append("  etcd:  ").Append(line).Append('\n');
                }
            }

            return text.Append("cairn's log:\n").Append(cairn.Tail()).ToString();
        }
    }
}
