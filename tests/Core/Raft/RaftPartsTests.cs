// The parts of the core against simple models: the log ring, quorums, the algebra of configurations, waiting reads.
using System;
using System.Collections.Generic;
using System.Linq;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using CsCheck;
using Xunit;

namespace Cairn.Core.Tests.Raft;

public sealed class RaftPartsTests
{
    [Fact]
    public void Log_DrawnOperations_AnswersAsAListDoes() =>
        Gen.Select(Gen.Int[0, 5], Gen.Int[0, 60]).Array[0, 100].Sample(
            steps =>
            {
                var owner = new Owner();
                using var log = new RaftLog(owner, 0, 0);
                var model = new List<(ulong Term, nint Owner)>(); // model[i] is index i + 1
                ulong compacted = 0, memory = 1, term = 1, sequence = 0;
                var retired = new List<(nint Owner, ulong Sequence)>();
                nint next = 1;
                foreach ((int action, int amount) in steps)
                {
                    switch (action)
                    {
                        case 0 or 1:
                            for (int i = 0; i < amount * 3; i++)
                            {
                                var entry = new RaftEntry { Index = (ulong)model.Count + 1, Term = term, Length = 3, Owner = next };
                                log.Append(in entry);
                                model.Add((term, next));
                                _ = owner.Live.Add(next++);
                            }

                            break;
                        case 2:
                            term += (ulong)(amount % 2);
                            sequence++;
                            break;
                        case 3 when (ulong)model.Count > compacted:
                            // What is replaced is released only when the unit that named it is durable.
                            ulong from = Math.Max(compacted + 1, (ulong)Math.Max(1, model.Count - amount));
                            log.TruncateFrom(from, compacted, sequence);
                            for (ulong i = Math.Max(from, memory); i <= (ulong)model.Count; i++)
                            {
                                retired.Add((model[(int)i - 1].Owner, sequence));
                            }

                            model.RemoveRange((int)from - 1, model.Count - (int)from + 1);
                            memory = Math.Min(memory, from);
                            term++;
                            break;
                        case 4:
                            ulong to = Math.Min((ulong)model.Count, compacted + (ulong)amount);
                            log.Compact(to);
                            compacted = to;
                            memory = Math.Max(memory, to + 1);
                            break;
                        case 5:
                            log.Trim((ulong)model.Count, 90, 20);
                            memory = log.FirstInMemory;
                            Assert.True(log.LastIndex + 1 - memory <= 20 || memory > (ulong)model.Count);
                            log.ReleaseRetired(sequence > 0 ? sequence - 1 : 0);
                            _ = retired.RemoveAll(r => r.Sequence < sequence || sequence == 0);
                            break;
                    }

                    Assert.Equal(((ulong)model.Count, memory), (log.LastIndex, log.FirstInMemory));
                    Assert.Equal(model.Count == 0 ? 0 : model[^1].Term, log.LastTerm);
                    var expectedLive = new HashSet<nint>(retired.ConvertAll(r => r.Owner));
                    for (ulong i = memory; i <= (ulong)model.Count; i++)
                    {
                        _ = expectedLive.Add(model[(int)i - 1].Owner);
                        Invariant.Check(model[(int)i - 1].Owner == log.At(i).Owner, "the ring holds what was appended");
                    }

                    Assert.True(expectedLive.SetEquals(owner.Live));
                    for (ulong i = 0; i <= (ulong)model.Count + 1; i++)
                    {
                        LogAnswer expected = i > (ulong)model.Count ? LogAnswer.Unavailable : i < compacted ? LogAnswer.Compacted : LogAnswer.Ready;
                        Invariant.Check(expected == log.TryGetTerm(i, out ulong found), "the term is known where it can be");
                        Invariant.Check(found == (expected == LogAnswer.Ready && i > 0 ? model[(int)i - 1].Term : 0), "the term is right");
                        LogAnswer where = i > (ulong)model.Count ? LogAnswer.Unavailable
                            : i <= compacted ? LogAnswer.Compacted
                            : i < memory ? LogAnswer.Pending
                            : LogAnswer.Ready;
                        Invariant.Check(where == log.Locate(i), "an entry is where the log says");
                    }

                    ulong guess = log.FindConflictByTerm((ulong)model.Count, term / 2, out _);
                    ulong slow = (ulong)model.Count;
                    while (slow > compacted && model[(int)slow - 1].Term > term / 2)
                    {
                        slow--;
                    }

                    Assert.Equal(slow, guess);
                }
            },
            iter: 200);

    [Fact]
    public void Truncation_AtOrBelowCommit_IsRefused()
    {
        using var log = new RaftLog(new Owner(), 0, 0);
        for (ulong i = 1; i <= 5; i++)
        {
            var entry = new RaftEntry { Index = i, Term = 1 };
            log.Append(in entry);
        }

        Assert.Throws<InvariantException>(() => log.TruncateFrom(3, 3, 0));
        log.TruncateFrom(4, 3, 0);
        Assert.Equal(3UL, log.LastIndex);
    }

    [Fact]
    public void Majority_AnyValues_IsTheHighestThatMoreThanHalfReached() =>
        Gen.ULong[0, 12].Array[1, 9].Sample(values =>
        {
            ulong expected = values.Where(v => values.Count(w => w >= v) > values.Length / 2).Max();
            return Quorum.Majority(((ulong[])values.Clone()).AsSpan()) == expected;
        });

    [Fact]
    public void Votes_AnyCounts_AreWonLostOrOpen()
    {
        for (int voters = 1; voters <= 9; voters++)
        {
            for (int yes = 0; yes <= voters; yes++)
            {
                for (int no = 0; yes + no <= voters; no++)
                {
                    VoteResult expected = yes * 2 > voters ? VoteResult.Won
                        : (voters - no) * 2 <= voters ? VoteResult.Lost
                        : VoteResult.Pending;
                    Assert.Equal(expected, Quorum.Votes(voters, yes, no));
                }
            }
        }

        Assert.Equal(VoteResult.Won, Quorum.Votes(0, 0, 0)); // an empty half agrees with anything
        Assert.Equal(ulong.MaxValue, Quorum.Majority([]));
        Assert.Equal(VoteResult.Pending, Quorum.Both(VoteResult.Won, VoteResult.Pending));
        Assert.Equal(VoteResult.Lost, Quorum.Both(VoteResult.Pending, VoteResult.Lost));
        Assert.Equal(VoteResult.Won, Quorum.Both(VoteResult.Won, VoteResult.Won));
    }

    [Fact]
    public void Configuration_JointChange_StagesADemotedVoterUntilItIsLeft()
    {
        Configuration start = Configuration.FromConfState(new ConfState { Voters = [1, 2, 3] }, out _)!;
        Configuration joint = start.EnterJoint(
            true,
            [new(ConfChangeType.AddNode, 4), new(ConfChangeType.AddLearnerNode, 2), new(ConfChangeType.RemoveNode, 3)], out _)!;
        Assert.Equal([1UL, 4], joint.Incoming);
        Assert.Equal([1UL, 2, 3], joint.Outgoing);
        Assert.Equal([2UL], joint.LearnersNext);
        Assert.Empty(joint.Learners);
        Assert.True(joint is { IsJoint: true, AutoLeave: true } && joint.IsVoter(3));
        Assert.Null(joint.Simple([new(ConfChangeType.AddNode, 9)], out _));
        Assert.Null(joint.EnterJoint(false, [], out _));

        Configuration left = joint.LeaveJoint(out _)!;
        Assert.Equal([1UL, 4], left.Incoming);
        Assert.Equal([2UL], left.Learners);
        Assert.False(left.IsJoint || left.AutoLeave || left.Contains(3));
        Assert.Null(left.LeaveJoint(out _));
    }

    [Fact]
    public void Configuration_SimpleChanges_MoveOneVoter()
    {
        Configuration one = Configuration.Empty.Simple([new(ConfChangeType.AddNode, 1)], out _)!;
        Assert.True(one.IsAlone(1));
        Assert.Null(one.Simple([new(ConfChangeType.AddNode, 2), new(ConfChangeType.AddNode, 3)], out _));
        Assert.Null(one.Simple([new(ConfChangeType.RemoveNode, 1)], out string problem));
        Assert.Equal("the last voter cannot be removed", problem);
        Assert.Null(one.Simple([new(ConfChangeType.AddLearnerNode, 1)], out _)); // would demote the last voter

        Configuration same = one.Simple([new(ConfChangeType.RemoveNode, 0)], out _)!; // node 0: refused at apply
        Assert.True(same.ToConfState().IsEquivalentTo(one.ToConfState()));

        Configuration learner = one.Simple([new(ConfChangeType.AddLearnerNode, 2)], out _)!;
        Assert.True(learner.IsLearner(2) && learner.IsSoleVoter(1) && !learner.IsAlone(1));
        Configuration promoted = learner.Simple([new(ConfChangeType.AddNode, 2)], out _)!;
        Assert.True(promoted.IsVoter(2) && !promoted.IsLearner(2));
        Assert.False(promoted.IsSoleVoter(1));
    }

    [Theory]
    [InlineData(new ulong[] { 1, 2 }, new ulong[] { 2 }, new ulong[0], new ulong[0], false)]
    [InlineData(new ulong[] { 1 }, new ulong[0], new ulong[0], new ulong[] { 2 }, false)]
    [InlineData(new ulong[] { 1 }, new ulong[0], new ulong[0], new ulong[0], true)]
    public void Configuration_ContradictingLists_AreRefused(ulong[] voters, ulong[] learners, ulong[] outgoing, ulong[] next, bool autoLeave) =>
        Assert.Null(Configuration.FromConfState(
            new ConfState { Voters = voters, Learners = learners, VotersOutgoing = outgoing, LearnersNext = next, AutoLeave = autoLeave }, out _));

    [Fact]
    public void Configuration_DrawnChanges_KeepItsRules() =>
        Gen.Select(Gen.Int[0, 3], Gen.ULong[0, 5], Gen.Int[0, 2]).Array[1, 40].Sample(steps =>
        {
            Configuration now = Configuration.Empty.Simple([new(ConfChangeType.AddNode, 1)], out _)!;
            foreach ((int type, ulong node, int how) in steps)
            {
                ConfChangeStep[] change = [new((ConfChangeType)type, node)];
                Configuration? next = how switch
                {
                    0 => now.Simple(change, out _),
                    1 => now.EnterJoint(false, change, out _),
                    _ => now.LeaveJoint(out _),
                };
                if (next == null)
                {
                    continue;
                }

                Assert.NotEmpty(next.Incoming);
                Assert.Empty(next.Learners.Intersect(next.Incoming.Union(next.Outgoing)));
                Assert.Empty(next.LearnersNext.Except(next.Outgoing));
                if (how == 1)
                {
                    Assert.Equal(now.Incoming, next.Outgoing);
                }

                Assert.True(Configuration.FromConfState(next.ToConfState(), out _)!.ToConfState().IsEquivalentTo(next.ToConfState()));
                now = next;
            }
        });

    [Fact]
    public void Reads_Waiting_AreConfirmedInOrderOrFailed()
    {
        var queue = new ReadQueue();
        for (ulong i = 1; i <= 200; i++)
        {
            Assert.Equal(i, queue.Accept(i * 10, i));
        }

        queue.Confirm(150);
        for (ulong i = 1; i <= 150; i++)
        {
            Assert.True(queue.TryTake(out ReadState read));
            Assert.Equal(new ReadState(i * 10, i, true), read);
        }

        Assert.False(queue.TryTake(out _));
        queue.Park(9);
        queue.Reset();
        var failed = new List<ulong>();
        while (queue.TryTake(out ReadState read))
        {
            Assert.False(read.IsConfirmed);
            failed.Add(read.Context);
        }

        Assert.Equal(51, failed.Count);
        Assert.Equal(9UL, failed[^1]);
        Assert.Equal(0UL, queue.Counter); // per term: an echo of an earlier term confirms nothing
    }

    private sealed class Owner : IPayloadOwner
    {
        public HashSet<nint> Live { get; } = [];

        public void Release(nint owner) => Assert.True(Live.Remove(owner), "released twice");
    }
}
