using System.Collections.Generic;
using Cairn.Core.Mvcc;
using Cairn.Core.Server;
using Xunit;

namespace Cairn.Core.Tests.Server;

/// <summary>Who is corrupt: behaviour.md §7, the three kinds of comparison.</summary>
public sealed class HashJudgeTests
{
    private static HashKvResult At(uint hash, long revision, long compact = -1, long current = 0) =>
        new(hash, revision, compact, current == 0 ? revision : current);

    [Fact]
    public void Periodic_Same_NamesNobody() => Assert.Empty(HashJudge.Periodic(
        1, At(7, 10), At(7, 10), [new PeerHash(2, At(7, 10)), new PeerHash(3, At(7, 10))]));

    [Fact]
    public void Periodic_OwnHashMovedAtTheSameRevision_NamesItself() =>
        Assert.Equal([1UL], HashJudge.Periodic(1, At(7, 10), At(8, 10), [new PeerHash(2, At(7, 10))]));

    [Fact]
    public void Periodic_PeerDiffers_NamesThePeer() =>
        Assert.Equal([3UL], HashJudge.Periodic(1, At(7, 10), At(9, 12), [new PeerHash(2, At(7, 10)), new PeerHash(3, At(6, 10))]));

    [Fact]
    public void Periodic_PeerCompactedElsewhere_ProvesNothing() =>
        Assert.Empty(HashJudge.Periodic(1, At(7, 10, 5), At(9, 12, 5), [new PeerHash(2, At(6, 10, 4))]));

    [Fact]
    public void Periodic_PeerAheadOfTheLeader_IsNamed()
    {
        Assert.Equal([2UL], HashJudge.Periodic(1, At(7, 10), At(9, 12), [new PeerHash(2, At(7, 10, -1, 13))]));
        Assert.Equal([2UL], HashJudge.Periodic(1, At(7, 10, 5), At(9, 12, 6), [new PeerHash(2, At(3, 10, 7, 12))]));
    }

    [Fact]
    public void Compaction_AllAgree_Confirms()
    {
        Assert.True(HashJudge.Compaction(1, At(7, 10, 4), [new PeerHash(2, At(7, 10, 4)), new PeerHash(3, At(7, 10, 4))], 3, out List<ulong> verdict));
        Assert.Empty(verdict);
        Assert.False(HashJudge.Compaction(1, At(7, 10, 4), [new PeerHash(2, At(7, 10, 4))], 3, out verdict));
        Assert.Empty(verdict);
    }

    [Fact]
    public void Compaction_Minority_IsNamedEvenIfItLeads()
    {
        Assert.False(HashJudge.Compaction(1, At(6, 10, 4), [new PeerHash(2, At(7, 10, 4)), new PeerHash(3, At(7, 10, 4))], 3, out List<ulong> verdict));
        Assert.Equal([1UL], verdict);
    }

    [Fact]
    public void Compaction_NoMajority_NamesMemberZero()
    {
        _ = HashJudge.Compaction(1, At(6, 10, 4), [new PeerHash(2, At(7, 10, 4)), new PeerHash(3, At(8, 10, 4))], 3, out List<ulong> verdict);
        Assert.Equal([0UL], verdict);
    }

    [Fact]
    public void Compaction_OtherPredecessor_IsNotCompared()
    {
        _ = HashJudge.Compaction(1, At(6, 10, 4), [new PeerHash(2, At(7, 10, 3))], 3, out List<ulong> verdict);
        Assert.Empty(verdict);
    }

    [Fact]
    public void Initial_SameCompactionOtherHash_Differs()
    {
        Assert.Equal([3UL], HashJudge.Initial(At(7, 10, 4), [new PeerHash(2, At(7, 10, 4)), new PeerHash(3, At(8, 10, 4)), new PeerHash(4, At(8, 10, 5))]));
    }
}
