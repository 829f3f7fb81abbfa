// Bytes that a real etcd 3.5.30 and 3.6 wrote (a worked example of a one-member log and store), read and written again.
using System;
using System.Text;
using Cairn.Base;
using Cairn.Core.Protocol;
using Xunit;

namespace Cairn.Core.Tests.Protocol;

public sealed class GoldenTests
{
    private const string PutEntry = "220a0a03666f6f1203626172a2060b0883b8bfd6d3c0a881df01";

    private const string TxnEntry =
        "323a0a0d10031a03666f6f3a0462617232120a12080a026b3112027631120a12080a026b321202763212051a030a01621a0a12080a026e6f12026e6f"
        + "a2060b0887b8bfd6d3c0a881df01";

    private const string V2Attributes =
        "0881b8bfd6d3c0a881df0112035055541a262f302f6d656d626572732f346335363930386361363034646630322f61747472696275746573"
        + "22367b226e616d65223a22657831222c22636c69656e7455524c73223a5b22687474703a2f2f3132372e302e302e313a3432333739225d7d"
        + "2800320038004800500058006000680070007800800100";

    [Fact]
    public void Entry_PutOf35_IsReadAndWrittenByteForByte()
    {
        byte[] bytes = Convert.FromHexString(PutEntry);
        Assert.True(InternalRaftRequest.TryParse(bytes, out InternalRaftRequest request));
        Assert.Equal(RequestKind.Put, request.Kind);
        Assert.Equal(0xdf02a2053acfdc03UL, request.Id);
        Assert.True(PutRequest.TryParse(request.Body, out PutRequest put));
        Assert.Equal("foo=bar", Text(put.Key) + "=" + Text(put.Value));
        AssertWritten(PutEntry, RequestKind.Put, request.Body, request.Id);
    }

    [Fact]
    public void Entry_TxnOf35_IsReadAndWrittenByteForByte()
    {
        byte[] bytes = Convert.FromHexString(TxnEntry);
        Assert.True(InternalRaftRequest.TryParse(bytes, out InternalRaftRequest request));
        Assert.Equal(RequestKind.Txn, request.Kind);
        Assert.True(RequestCanon.TryReadTxn(request.Body, out TxnRequest txn, out bool unusual));
        Assert.False(unusual);
        Assert.Equal((1, 3, 1), (txn.CompareCount, txn.SuccessCount, txn.FailureCount));
        foreach (Compare compare in txn.Compares)
        {
            Assert.Equal((CompareResult.Equal, CompareTarget.Value), (compare.Result, compare.Target));
            Assert.Equal("foo=bar2", Text(compare.Key) + "=" + Text(compare.ValueForTarget));
        }

        var story = new StringBuilder();
        foreach (RequestOp op in txn.Success)
        {
            _ = op.Kind == RequestOpKind.Put
                ? story.Append("put ").Append(Text(op.AsPut().Key)).Append(' ')
                : story.Append("del ").Append(Text(op.AsDeleteRange().Key)).Append(' ');
        }

        Assert.Equal("put k1 put k2 del b ", story.ToString());
        AssertWritten(TxnEntry, RequestKind.Txn, request.Body, request.Id);
    }

    [Fact]
    public void Entry_LeaseGrantOf35_IsReadAndWritten()
    {
        byte[] bytes = Convert.FromHexString("420d08901c1088b8bfd6d3c0a8815f");
        Assert.True(InternalRaftRequest.TryParse(bytes, out InternalRaftRequest request));
        Assert.True(LeaseGrantRequest.TryParse(request.Body, out LeaseGrantRequest grant));
        Assert.Equal((3600, 0x5f02a2053acfdc08), (grant.Ttl, grant.Id));
        byte[] written = new byte[grant.Size];
        var writer = new ProtoWriter(written);
        grant.Write(ref writer);
        Assert.Equal(request.Body.ToArray(), written);
    }

    [Theory]
    [InlineData("2a050a03666f6f", RequestKind.DeleteRange)]
    [InlineData("3a020805", RequestKind.Compaction)]
    public void Entry_OtherKindsOf35_AreToldApart(string hex, RequestKind kind)
    {
        Assert.True(InternalRaftRequest.TryParse(Convert.FromHexString(hex), out InternalRaftRequest request));
        Assert.Equal(kind, request.Kind);
    }

    [Fact]
    public void Entry_BareV2RequestOf35_IsToldApart()
    {
        byte[] bytes = Convert.FromHexString(V2Attributes);
        Assert.Equal(135, bytes.Length);
        Assert.True(InternalRaftRequest.TryParse(bytes, out InternalRaftRequest request));
        Assert.Equal(RequestKind.V2, request.Kind);
        Assert.Equal(0xdf02a2053acfdc01UL, request.Id);
        Assert.True(V2Request.TryParse(request.Body, out V2Request v2));
        Assert.Equal("PUT /0/members/4c56908ca604df02/attributes", Text(v2.Method) + " " + Text(v2.Path));
        Assert.Equal("{\"name\":\"ex1\",\"clientURLs\":[\"http://127.0.0.1:42379\"]}", Text(v2.Val));
    }

    [Fact]
    public void Entry_MemberAttributesOf36_AreReadAndWrittenByteForByte()
    {
        const string Hex = "a2060a0881de9abdd4c0a89c6eaa512d08b8dcb5dcd2e8c29c5d12210a07667265736833361216687474703a2f2f3132372e302e302e313a3531333739";
        byte[] bytes = Convert.FromHexString(Hex);
        Assert.True(InternalRaftRequest.TryParse(bytes, out InternalRaftRequest request));
        Assert.Equal(RequestKind.ClusterMemberAttrSet, request.Kind);
        Assert.True(ClusterMemberAttrSetRequest.TryParse(request.Body, out ClusterMemberAttrSetRequest set));
        Assert.Equal("fresh36", Text(set.Name));
        byte[] url = [];
        foreach (ReadOnlySpan<byte> one in set.ClientUrls)
        {
            Assert.Empty(url);
            url = one.ToArray();
        }

        Assert.Equal("http://127.0.0.1:51379", Text(url));
        Assert.Equal(request.Body.ToArray(), ClusterMemberAttrSetRequest.Encode(set.MemberId, set.Name, [url]));
        AssertWritten(Hex, RequestKind.ClusterMemberAttrSet, request.Body, request.Id);
    }

    [Fact]
    public void Entry_ClusterVersionOf36_IsReadAndWrittenByteForByte()
    {
        const string Hex = "a2060a0882de9abdd4c0a89c6ea251070a05332e362e30";
        Assert.True(InternalRaftRequest.TryParse(Convert.FromHexString(Hex), out InternalRaftRequest request));
        Assert.Equal(RequestKind.ClusterVersionSet, request.Kind);
        Assert.True(ClusterVersionSetRequest.TryParse(request.Body, out ClusterVersionSetRequest set));
        Assert.Equal("3.6.0", Text(set.Version));
        AssertWritten(Hex, RequestKind.ClusterVersionSet, request.Body, request.Id);
    }

    [Fact]
    public void Entry_TwoRequestsInOne_IsRefused() =>
        Assert.False(InternalRaftRequest.TryParse(Convert.FromHexString("220022002a00"), out _));

    [Fact]
    public void Entry_UnknownKind_IsNamed()
    {
        Assert.True(InternalRaftRequest.TryParse(Convert.FromHexString("6200"), out InternalRaftRequest request));
        Assert.Equal(12, (int)request.Kind);
        Assert.False(InternalRaftRequest.IsKnown((int)request.Kind));
    }

    [Fact]
    public void RaftRecords_Of35_AreReadAndWrittenByteForByte()
    {
        AssertHardState("080110001801", new HardState(1, 0, 1));
        AssertHardState("08021082be93b0ca91a4ab4c1802", new HardState(2, 0x4c56908ca604df02, 2));

        const string Context = "{\"id\":5500742928634797826,\"peerURLs\":[\"http://127.0.0.1:42380\"],\"name\":\"ex1\"}";
        byte[] change = Convert.FromHexString("080010001882be93b0ca91a4ab4c224d" + Convert.ToHexString(Encoding.ASCII.GetBytes(Context)));
        Assert.Equal(93, change.Length);
        Assert.True(ConfChange.TryParse(change, out ConfChange parsed));
        Assert.Equal((ConfChangeType.AddNode, 0x4c56908ca604df02UL, Context), (parsed.Type, parsed.NodeId, Text(parsed.Context)));
        byte[] written = new byte[parsed.Size];
        var writer = new ProtoWriter(written);
        parsed.Write(ref writer);
        Assert.Equal(change, written);

        byte[] entry = [.. Convert.FromHexString("080110011801225d"), .. change];
        Assert.True(RaftEntryMessage.TryParse(entry, out RaftEntryMessage message));
        Assert.Equal((EntryType.ConfChange, 1UL, 1UL), (message.Type, message.Term, message.Index));
        byte[] again = new byte[message.Size];
        writer = new ProtoWriter(again);
        message.Write(ref writer);
        Assert.Equal(entry, again);

        Assert.True(RaftEntryMessage.TryParse(Convert.FromHexString("080010021802"), out RaftEntryMessage empty));
        Assert.Equal((2UL, 0, 6), (empty.Index, empty.Data.Length, empty.Size));
    }

    [Fact]
    public void ConfState_OfASnapshotRecord_IsReadAndWrittenByteForByte()
    {
        byte[] bytes = Convert.FromHexString("0896859897c9c7de92172800");
        Assert.True(ConfState.TryParse(bytes, out ConfState state));
        Assert.Single(state.Voters);
        Assert.False(state.AutoLeave);
        Assert.Equal(bytes, state.ToBytes());

        // 3.7 may write lists packed; both forms read alike.
        Assert.True(ConfState.TryParse(Convert.FromHexString("0a0301ac02120103280130"[..^2]), out ConfState packed));
        Assert.True(packed.IsEquivalentTo(new ConfState { Voters = [300, 1], Learners = [3], AutoLeave = true }));
    }

    [Fact]
    public void Snapshot_RoundTrip_KeepsEverything()
    {
        byte[] data = [1, 2, 3];
        byte[] state = new ConfState { Voters = [1, 2] }.ToBytes();
        var snapshot = new RaftSnapshotMessage { Data = data, ConfState = state, Index = 301, Term = 2 };
        byte[] bytes = new byte[snapshot.Size];
        var writer = new ProtoWriter(bytes);
        snapshot.Write(ref writer);
        Assert.Equal(bytes.Length, writer.Position);
        Assert.True(RaftSnapshotMessage.TryParse(bytes, out RaftSnapshotMessage again));
        Assert.Equal((301UL, 2UL), (again.Index, again.Term));
        Assert.Equal(data, again.Data.ToArray());
        Assert.Equal(state, again.ConfState.ToArray());
    }

    [Theory]
    [InlineData("0a03666f6f10021803200" + "22a0462617232", "foo", 2, 3, 2, "bar2", 0L)]
    [InlineData("0a066c6561736564100718072001" + "2a01783088b8bfd6d3c0a8815f", "leased", 7, 7, 1, "x", 0x5f02a2053acfdc08)]
    [InlineData("0a0162", "b", 0, 0, 0, "", 0L)] // a tombstone
    [InlineData("", "", 0, 0, 0, "", 0L)] // the revision a restore writes
    public void KeyValue_Of35_IsReadAndWrittenByteForByte(
        string hex, string key, long create, long mod, long version, string value, long lease)
    {
        byte[] bytes = Convert.FromHexString(hex);
        Assert.True(KeyValue.TryParse(bytes, out KeyValue pair));
        Assert.Equal((key, create, mod), (Text(pair.Key), pair.CreateRevision, pair.ModRevision));
        Assert.Equal((version, value, lease), (pair.Version, Text(pair.Value), pair.Lease));
        byte[] written = new byte[pair.Size];
        var writer = new ProtoWriter(written);
        pair.Write(ref writer);
        Assert.Equal(bytes, written);
    }

    [Fact]
    public void Responses_Recorded_AreWrittenByteForByte()
    {
        // Every Put answer of the recording, taken apart and put together again.
        int seen = 0;
        foreach (System.Text.Json.JsonElement step in TranscriptTests.Steps())
        {
            if (step.GetProperty("k").GetString() != "unary" || step.GetProperty("m").GetString() != "/etcdserverpb.KV/Put"
                || step.GetProperty("c").GetInt32() != 0)
            {
                continue;
            }

            byte[] bytes = Convert.FromHexString(step.GetProperty("rs").GetString()!);
            var reader = new MessageReader(bytes);
            var header = default(ResponseHeader);
            byte[]? previous = null;
            while (reader.NextField())
            {
                if (reader.Field == 1)
                {
                    header = ReadHeader(reader.ReadBytes());
                }
                else
                {
                    previous = reader.ReadBytes().ToArray();
                }
            }

            byte[] written = new byte[PutResponseWriter.Size(in header, previous != null, previous?.Length ?? 0)];
            var writer = new ProtoWriter(written);
            PutResponseWriter.Write(ref writer, in header, previous != null, previous);
            Assert.Equal(bytes, written);
            seen++;
        }

        Assert.True(seen > 400);
    }

    [Fact]
    public void TxnResponse_Nested_IsWrittenAsItsParts()
    {
        // {header{revision 7}, succeeded, [put{header{revision 7}}, txn{header{}}]}
        var header = new ResponseHeader { Revision = 7 };
        var empty = default(ResponseHeader);
        int put = PutResponseWriter.Size(in header, false, 0);
        int nested = TxnResponseWriter.HeadSize(in empty, false);
        int size = TxnResponseWriter.HeadSize(in header, true)
            + TxnResponseWriter.ResponseSize(RequestOpKind.Put, put) + TxnResponseWriter.ResponseSize(RequestOpKind.Txn, nested);
        byte[] bytes = new byte[size];
        var writer = new ProtoWriter(bytes);
        TxnResponseWriter.WriteHead(ref writer, in header, true);
        TxnResponseWriter.WriteResponseStart(ref writer, RequestOpKind.Put, put);
        PutResponseWriter.Write(ref writer, in header, false, default);
        TxnResponseWriter.WriteResponseStart(ref writer, RequestOpKind.Txn, nested);
        TxnResponseWriter.WriteHead(ref writer, in empty, false);
        Assert.Equal("0a02180710011a0612040a0218071a0422020a00", Convert.ToHexStringLower(bytes));
    }

    private static ResponseHeader ReadHeader(ReadOnlySpan<byte> data)
    {
        var header = default(ResponseHeader);
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            ulong value = reader.ReadUInt64();
            switch (reader.Field)
            {
                case 1:
                    header.ClusterId = value;
                    break;
                case 2:
                    header.MemberId = value;
                    break;
                case 3:
                    header.Revision = (long)value;
                    break;
                default:
                    header.RaftTerm = value;
                    break;
            }
        }

        return header;
    }

    private static void AssertHardState(string hex, HardState expected)
    {
        byte[] bytes = Convert.FromHexString(hex);
        Assert.True(HardState.TryParse(bytes, out HardState state));
        Assert.Equal(expected, state);
        byte[] written = new byte[state.Size];
        var writer = new ProtoWriter(written);
        state.Write(ref writer);
        Assert.Equal(bytes, written);
    }

    private static void AssertWritten(string hex, RequestKind kind, ReadOnlySpan<byte> body, ulong id)
    {
        var header = new RequestHeader { Id = id };
        byte[] written = new byte[InternalRaftRequest.Size(kind, body.Length, in header)];
        var writer = new ProtoWriter(written);
        InternalRaftRequest.Write(ref writer, kind, body, in header);
        Assert.Equal(hex, Convert.ToHexStringLower(written));
    }

    private static string Text(ReadOnlySpan<byte> bytes) => Encoding.UTF8.GetString(bytes);
}
