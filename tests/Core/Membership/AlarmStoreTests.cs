// Alarms: what raising, disarming and listing do, and what a raised alarm forbids.
using System;
using System.Buffers;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Tests.Server;
using Cairn.Core.Tests.Support;
using Xunit;

namespace Cairn.Core.Tests.Membership;

public sealed class AlarmStoreTests
{
    private const int Get = 0;
    private const int Activate = 1;
    private const int Deactivate = 2;

    private readonly MemoryBuckets _buckets = new();
    private readonly AlarmStore _store = new();

    [Fact]
    public void Activate_Twice_GivesTheExistingOne()
    {
        Assert.Equal("120408051001", Apply(Activate, 5, AlarmKind.NoSpace));
        Assert.Equal("120408051001", Apply(Activate, 5, AlarmKind.NoSpace));
        Assert.Equal("08051001 = \n", _buckets.Dump(BucketId.Alarm));
        Assert.Equal("", Apply(Activate, 5, AlarmKind.None));
        Assert.Equal("120408051001", Apply(Get, 0, AlarmKind.None));
        Assert.Equal("", Apply(Get, 0, AlarmKind.Corrupt));
    }

    [Fact]
    public void Deactivate_MustNameTheMember()
    {
        Apply(Activate, 5, AlarmKind.NoSpace);
        Assert.Equal("", Apply(Deactivate, 0, AlarmKind.NoSpace));
        Assert.Equal("", Apply(Deactivate, 6, AlarmKind.NoSpace));
        Assert.True(_store.Current.HasNoSpace);
        Assert.Equal("120408051001", Apply(Deactivate, 5, AlarmKind.NoSpace));
        Assert.False(_store.Current.HasNoSpace);
        Assert.Empty(_buckets[BucketId.Alarm]);
    }

    [Fact]
    public void Restore_OfTheBucket_IsTheSameList()
    {
        Apply(Activate, 0, AlarmKind.Corrupt);
        Apply(Activate, ulong.MaxValue, AlarmKind.NoSpace);
        var again = new AlarmStore();
        again.Restore(_buckets);
        Assert.Equal(_store.Current.Alarms.ToArray(), again.Current.Alarms.ToArray());
        Assert.True(again.IsRaised(0, AlarmKind.Corrupt));
    }

    [Fact]
    public void Judge_NoSpace_RefusesWhatPuts()
    {
        byte[] put = Requests.Put("k", "v");
        Assert.Equal(ErrorCode.None, _store.Judge(RequestKind.Put, put));
        Apply(Activate, 5, AlarmKind.NoSpace);
        Assert.Equal(ErrorCode.NoSpace, _store.Judge(RequestKind.Put, put));
        Assert.Equal(ErrorCode.NoSpace, _store.Judge(RequestKind.LeaseGrant, []));
        Assert.Equal(ErrorCode.None, _store.Judge(RequestKind.DeleteRange, Requests.Delete("k")));
        Assert.Equal(ErrorCode.None, _store.Judge(RequestKind.Compaction, []));
        byte[] nothing = Requests.Txn((3, Requests.Delete("k")));
        byte[] failure = Requests.Message((3, Requests.Message((2, put))));
        byte[] nested = Requests.Txn((4, Requests.Txn((2, put))));
        Assert.Equal(ErrorCode.None, _store.Judge(RequestKind.Txn, nothing));
        Assert.Equal(ErrorCode.NoSpace, _store.Judge(RequestKind.Txn, failure));
        Assert.Equal(ErrorCode.NoSpace, _store.Judge(RequestKind.Txn, nested));
    }

    [Fact]
    public void Judge_Corrupt_WinsOverNoSpace()
    {
        Apply(Activate, 5, AlarmKind.Corrupt);
        Apply(Activate, 5, AlarmKind.NoSpace);
        Assert.Equal(ErrorCode.Corrupt, _store.Judge(RequestKind.Put, []));
        Assert.Equal(ErrorCode.Corrupt, _store.Judge(RequestKind.Compaction, []));
        Assert.Equal(ErrorCode.Corrupt, _store.Judge(RequestKind.LeaseRevoke, []));
        Assert.Equal(ErrorCode.None, _store.Judge(RequestKind.Alarm, []));
        Assert.Equal(ErrorCode.None, _store.Judge(RequestKind.AuthEnable, []));
    }

    private string Apply(int action, ulong member, AlarmKind kind)
    {
        var response = new ArrayBufferWriter<byte>();
        byte[] body = Requests.Message((1, (ulong)action), (2, member), (3, (ulong)kind));
        Assert.Equal(ErrorCode.None, _store.Apply(body, _buckets, response));
        return Convert.ToHexStringLower(response.WrittenSpan);
    }
}
