// Every decoder on every truncation, every single-byte change and seeded noise: it answers true or false, throws
// nothing, allocates nothing by an unchecked length, and what it accepts can be walked to the end.
using System;
using System.Collections.Generic;
using Cairn.Core.Protocol;
using CsCheck;
using Xunit;

namespace Cairn.Core.Tests.Protocol;

public sealed class DecoderTests
{
    private static readonly string[] Samples =
    [
        "",
        "0a03666f6f1203626172",
        "0a0161120162180520072801300238014001480150015802600368ffffffffffffffffff01",
        "0a0d10031a03666f6f3a0462617232120a12080a026b3112027631120c220a12081a060a01611201621a0a12080a026e6f12026e6f",
        "12050a030a017812081a060a01611201001206220412022200",
        "220a0a03666f6f1203626172a206130883b8bfd6d3c0a881df011205616c6963651807",
        "0881b8bfd6d3c0a881df0112035055541a012f220130280032003800480050005800600068007000780080010088010190010b930108059401",
        "a2060a0881de9abdd4c0a89c6eaa512d08b8dcb5dcd2e8c29c5d12210a07667265736833361216687474703a2f2f3132372e302e302e313a3531333739",
        "080110011801225d080010001882be93b0ca91a4ab4c2203616263",
        "08021082be93b0ca91a4ab4c1802",
        "0896859897c9c7de9217100118012002120312ac02280130007801",
        "0a03010203121c0a0c0896859897c9c7de9217280010ad021802",
        "08011082be93b0ca91a4ab4c1802",
        "0801120335352e",
    ];

    [Fact]
    public void Decoders_EveryTruncation_AnswerWithoutThrowing()
    {
        foreach (string sample in Samples)
        {
            byte[] bytes = Convert.FromHexString(sample);
            for (int length = 0; length <= bytes.Length; length++)
            {
                All(bytes.AsSpan(0, length));
            }
        }
    }

    [Fact]
    public void Decoders_EverySingleByteChange_AnswerWithoutThrowing()
    {
        foreach (string sample in Samples)
        {
            byte[] bytes = Convert.FromHexString(sample);
            for (int at = 0; at < bytes.Length; at++)
            {
                byte kept = bytes[at];
                for (int value = 0; value < 256; value++)
                {
                    bytes[at] = (byte)value;
                    All(bytes);
                }

                bytes[at] = kept;
            }
        }
    }

    [Fact]
    public void Decoders_SeededNoise_AnswerWithoutThrowing()
    {
        Gen.OneOf(Gen.Byte.Array[0, 80], Gen.Byte[0, 40].Array[0, 80]).Sample(data => All(data), iter: 50_000);
        Gen.OneOf(MessageGen.Of(SlowSchema.Txn, 4), MessageGen.Of(SlowSchema.KeyValue)).Sample(data => All(data), iter: 20_000);
    }

    [Fact]
    public void Decoders_HugeLengths_DoNotAllocate()
    {
        // A ConfState is the only message that makes arrays: a length of 2^31-1 with nothing behind it makes none.
        byte[] bytes = Convert.FromHexString("0affffffff07");
        Assert.False(ConfState.TryParse(bytes, out _));
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.False(ConfState.TryParse(bytes, out _));
        Assert.False(TxnRequest.TryParse(bytes, out _));
        Assert.False(PutRequest.TryParse(bytes, out _));
        Assert.True(GC.GetAllocatedBytesForCurrentThread() - before < 1_000);
    }

    [Fact]
    public void Errors_EveryCode_HasItsRow()
    {
        var messages = new HashSet<string>();
        foreach (ErrorCode code in Enum.GetValues<ErrorCode>())
        {
            (int status, string message) = Errors.Get(code);
            Assert.True(messages.Add(message), $"{code}: the text is another code's too");
            Assert.NotEqual("etcdserver: unlisted error", message);
            Assert.InRange(status, 0, 16);
            Assert.Equal(code == ErrorCode.None, status == GrpcCode.Ok);
        }
    }

    [Theory]
    [InlineData(ErrorCode.KeyNotProvided, 3, "etcdserver: key is not provided")]
    [InlineData(ErrorCode.KeyNotFound, 3, "etcdserver: key not found")]
    [InlineData(ErrorCode.Compacted, 11, "etcdserver: mvcc: required revision has been compacted")]
    [InlineData(ErrorCode.FutureRev, 11, "etcdserver: mvcc: required revision is a future revision")]
    [InlineData(ErrorCode.NoSpace, 8, "etcdserver: mvcc: database space exceeded")]
    [InlineData(ErrorCode.LeaseNotFound, 5, "etcdserver: requested lease not found")]
    [InlineData(ErrorCode.LeaseExists, 9, "etcdserver: lease already exists")]
    [InlineData(ErrorCode.LeaseTtlTooLarge, 11, "etcdserver: too large lease TTL")]
    [InlineData(ErrorCode.MemberExists, 9, "etcdserver: member ID already exist")]
    [InlineData(ErrorCode.PeerUrlExists, 9, "etcdserver: Peer URLs already exists")]
    [InlineData(ErrorCode.TooManyRequests, 2, "etcdserver: too many requests")] // loses its code on the way, as in etcd
    [InlineData(ErrorCode.MemberNotEnoughStarted, 2, "etcdserver: re-configuration failed due to not enough started members")]
    [InlineData(ErrorCode.NotCapable, 9, "etcdserver: not capable")]
    [InlineData(ErrorCode.NotSupportedForLearner, 9, "etcdserver: rpc not supported for learner")]
    [InlineData(ErrorCode.Corrupt, 15, "etcdserver: corrupt cluster")]
    [InlineData(ErrorCode.InvalidAuthToken, 16, "etcdserver: invalid auth token")]
    [InlineData(ErrorCode.PermissionDenied, 7, "etcdserver: permission denied")]
    [InlineData(ErrorCode.Timeout, 14, "etcdserver: request timed out")]
    [InlineData(ErrorCode.Stopped, 14, "etcdserver: server stopped")]
    [InlineData(ErrorCode.LeaderChanged, 14, "etcdserver: leader changed")]
    public void Errors_KnownCodes_ReachTheWireAsEtcds(ErrorCode code, int status, string message) =>
        Assert.Equal((status, message), Errors.Get(code));

    private static void All(ReadOnlySpan<byte> data)
    {
        _ = RangeRequest.TryParse(data, out RangeRequest range) && RequestChecks.CheckRange(in range) == ErrorCode.None;
        _ = PutRequest.TryParse(data, out PutRequest put) && RequestChecks.CheckPut(in put) == ErrorCode.None;
        _ = DeleteRangeRequest.TryParse(data, out _);
        _ = CompactionRequest.TryParse(data, out _);
        _ = KeyValue.TryParse(data, out _);
        _ = HardState.TryParse(data, out _);
        _ = ConfChange.TryParse(data, out _);
        _ = RaftEntryMessage.TryParse(data, out _);
        _ = RaftSnapshotMessage.TryParse(data, out _);
        _ = V2Request.TryParse(data, out _);
        _ = LeaseGrantRequest.TryParse(data, out _);
        _ = LeaseIdRequest.TryParse(data, out _);
        _ = LeaseTimeToLiveRequest.TryParse(data, out _);
        _ = AlarmRequest.TryParse(data, out _);
        _ = ClusterVersionSetRequest.TryParse(data, out _);
        _ = DowngradeInfoSetRequest.TryParse(data, out _);
        if (ClusterMemberAttrSetRequest.TryParse(data, out ClusterMemberAttrSetRequest attributes))
        {
            foreach (ReadOnlySpan<byte> url in attributes.ClientUrls)
            {
                Assert.True(url.IsEmpty || data.Overlaps(url));
            }
        }

        if (InternalRaftRequest.TryParse(data, out InternalRaftRequest request))
        {
            Assert.True(request.Body.IsEmpty || data.Overlaps(request.Body));
        }

        if (ConfState.TryParse(data, out ConfState state))
        {
            Assert.True(ConfState.TryParse(state.ToBytes(), out ConfState again) && state.IsEquivalentTo(again));
        }

        if (RequestCanon.TryReadTxn(data, out TxnRequest txn, out bool unusual))
        {
            ErrorCode error = RequestChecks.CheckTxn(in txn, 128);
            if (error == ErrorCode.None)
            {
                CanonPlan plan = RequestCanon.PlanTxn(in txn, unusual);
                byte[] body = new byte[plan.Length];
                plan.WriteTo(body);
                Assert.True(TxnRequest.TryParse(body, out _));
            }
        }
    }
}
