// Reads that would keep a loop from its other connections are done elsewhere, and say the same.
using System.Collections.Generic;
using System.Threading.Tasks;
using Cairn.Core.Server;
using Cairn.Net.Host;
using Xunit;
using static Cairn.Net.Tests.ProtoBytes;

namespace Cairn.Net.Tests;

public sealed class LongReadsTests
{
    private const string Kv = "/etcdserverpb.KV/";
    private const int Keys = 6000, PerTxn = 100;

    [Theory]
    [InlineData(Http2Engine.Cairn)]
    [InlineData(Http2Engine.Kestrel)]
    public async Task Reads_OfManyKeys_LeaveTheThreadThatServesOthers(Http2Engine engine)
    {
        await using MemberFixture member = await MemberFixture.StartAsync(
            o => o with { UnsafeNoSync = true }, o => o with { Engine = engine });
        Member core = member.Host.Member;
        for (int first = 0; first < Keys; first += PerTxn)
        {
            var puts = new List<byte[]>();
            for (int i = first; i < first + PerTxn; i++)
            {
                puts.Add(Bytes(2, Bytes(2, Message(Text(1, $"k{i:d5}"), Text(2, "v" + i)))));
            }

            Assert.Equal(0, (await member.Client.CallAsync(Kv + "Txn", Message([.. puts]))).Code);
        }

        async Task<byte[]> ReadAsync(string method, byte[] request, int elsewhere)
        {
            long before = core.ColdReadCount;
            byte[] answer = (await member.Client.CallAsync(Kv + method, request)).Single;
            Assert.Equal(elsewhere, core.ColdReadCount - before);
            return answer;
        }

        byte[] all = Message(Text(1, "k"), Text(2, "l"));
        byte[] one = await ReadAsync("Range", Text(1, "k00042"), elsewhere: 0);
        Assert.Equal(1, NumberOf(one, 4));
        byte[] few = await ReadAsync("Range", Message(Text(1, "k00042"), Text(2, "k00062")), elsewhere: 0);
        Assert.Equal(20, AllOf(few, 2).Count);
        byte[] every = await ReadAsync("Range", all, elsewhere: 1);
        List<byte[]> pairs = AllOf(every, 2);
        Assert.Equal((Keys, Keys), (pairs.Count, NumberOf(every, 4)));
        for (int i = 0; i < Keys; i++)
        {
            Assert.Equal($"k{i:d5}", System.Text.Encoding.ASCII.GetString(AllOf(pairs[i], 1)[0]));
            Assert.Equal("v" + i, System.Text.Encoding.ASCII.GetString(AllOf(pairs[i], 5)[0]));
        }

        // The count alone has to look at every key of the range.
        byte[] counted = await ReadAsync("Range", Message(all, Number(9, 1)), elsewhere: 1);
        Assert.Equal((0, Keys), (AllOf(counted, 2).Count, NumberOf(counted, 4)));
        byte[] page = await ReadAsync("Range", Message(all, Number(3, 5)), elsewhere: 1);
        Assert.Equal((5, Keys, 1), (AllOf(page, 2).Count, NumberOf(page, 4), NumberOf(page, 3)));

        // One budget for all of a txn, its conditions included.
        byte[] half = Bytes(2, Bytes(1, Message(Text(1, "k00000"), Text(2, "k00500"))));
        byte[] txn = await ReadAsync("Txn", half, elsewhere: 0);
        Assert.Equal((1, 500), (NumberOf(txn, 2), AllOf(AllOf(AllOf(txn, 3)[0], 1)[0], 2).Count));
        txn = await ReadAsync("Txn", Message(half, half), elsewhere: 1);
        Assert.Equal(2, AllOf(txn, 3).Count);
        Assert.Equal(500, AllOf(AllOf(AllOf(txn, 3)[1], 1)[0], 2).Count);
        byte[] compare = Bytes(1, Message(Number(1, 1), Number(2, 1), Text(3, "k"), Text(64, "l"), Number(5, 0)));
        txn = await ReadAsync("Txn", Message(compare, Bytes(2, Bytes(1, Text(1, "k00001")))), elsewhere: 1);
        Assert.Equal(1, NumberOf(txn, 2));
    }
}
