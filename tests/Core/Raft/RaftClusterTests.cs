// Many cores: the rules of raft.md one by one, and properties over drawn schedules with every fault a network and a
// process can have.
using System;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using CsCheck;
using Xunit;
using Xunit.Abstractions;

namespace Cairn.Core.Tests.Raft;

public sealed class RaftClusterTests(ITestOutputHelper output)
{
    [Fact]
    public void Election_ThreeMembers_OneLeads_AndWritesReachAll()
    {
        using RaftCluster cluster = Led(3);
        RaftCluster.Node leader = cluster.Leader!;
        for (int i = 0; i < 20; i++)
        {
            cluster.Propose(cluster.Nodes[i % 3]); // followers forward
        }

        cluster.Settle(5);
        Assert.Equal(leader, cluster.Leader);
        foreach (RaftCluster.Node node in cluster.Nodes)
        {
            Assert.Equal(cluster.HighestCommit, node.Core.Applied);
        }

        Assert.Equal(20, new List<RaftCluster.Entry>(cluster.Ledger.Values).FindAll(e => e.Payload.Length > 0).Count);
        cluster.CheckOnce();
    }

    [Fact]
    public void Vote_Request_LeavesOnlyWhenTermAndVoteAreDurable()
    {
        using var cluster = new RaftCluster(3, 0, 1, c => c with { PreVote = false });
        RaftCluster.Node node = cluster[1];
        node.Core.CampaignNow();
        Assert.False(node.Core.TryTakeMessage(out _)); // the unit has not even been taken
        Assert.True(node.Core.TryTakeAppend(out AppendUnit unit));
        Assert.Equal((2UL, 1UL, true), (unit.HardState.Term, unit.HardState.Vote, unit.MustSync));
        Assert.True(node.Core.TryTakeMessage(out RaftMessage request));
        Assert.Equal((MessageType.Vote, unit.Sequence), (request.Type, request.ReleaseSequence));
        node.Core.WalDurable(unit.Sequence);
    }

    [Fact]
    public void Vote_Answer_IsReleasedByTheUnitThatHoldsTheVote()
    {
        using var cluster = new RaftCluster(3, 0, 1);
        RaftCore core = cluster[2].Core;
        core.Step(new RaftMessage { Type = MessageType.Vote, From = 1, To = 2, Term = 5, Index = 1, LogTerm = 1 }, []);
        Assert.False(core.TryTakeMessage(out _));
        Assert.True(core.TryTakeAppend(out AppendUnit unit));
        Assert.Equal(new HardState(5, 1, 1), unit.HardState);
        Assert.True(core.TryTakeMessage(out RaftMessage answer));
        Assert.Equal(
            (MessageType.VoteResponse, false, 5UL, unit.Sequence), (answer.Type, answer.IsReject, answer.Term, answer.ReleaseSequence));

        // Another candidate of the same term is refused, the same one is answered again.
        core.Step(new RaftMessage { Type = MessageType.Vote, From = 3, To = 2, Term = 5, Index = 9, LogTerm = 4 }, []);
        core.Step(new RaftMessage { Type = MessageType.Vote, From = 1, To = 2, Term = 5, Index = 1, LogTerm = 1 }, []);
        Assert.True(core.TryTakeMessage(out RaftMessage second) && second.IsReject && second.To == 3);
        Assert.True(core.TryTakeMessage(out RaftMessage again) && !again.IsReject && again.To == 1);
    }

    [Fact]
    public void Vote_WhileALeaderIsHeard_IsIgnoredWithItsTerm_UnlessItIsATransfer()
    {
        using RaftCluster cluster = Led(3);
        RaftCluster.Node leader = cluster.Leader!;
        RaftCluster.Node follower = cluster.Nodes.Find(n => n != leader)!;
        RaftCluster.Node other = cluster.Nodes.Find(n => n != leader && n != follower)!;
        ulong term = follower.Core.Term;
        var request = new RaftMessage { Type = MessageType.Vote, From = other.Id, To = follower.Id, Term = term + 7, Index = 99, LogTerm = term };
        follower.Core.Step(in request, []);
        Assert.Equal(term, follower.Core.Term);
        request.Type = MessageType.PreVote;
        follower.Core.Step(in request, []);
        Assert.False(follower.Core.TryTakeMessage(out _));
        follower.Core.ForgetLeader();
        follower.Core.Step(in request, []);
        Assert.True(follower.Core.TryTakeMessage(out RaftMessage granted) && !granted.IsReject && granted.Term == term + 7);
        Assert.Equal(term, follower.Core.Term); // a pre-vote never changes it
        request.Type = MessageType.Vote;
        request.IsTransfer = true;
        follower.Core.Step(in request, []);
        Assert.Equal(term + 7, follower.Core.Term);
    }

    [Fact]
    public void Term_FromThePast_IsAnsweredOrIgnoredByKind()
    {
        using var cluster = new RaftCluster(3, 0, 1);
        RaftCore core = cluster[2].Core;
        core.Step(new RaftMessage { Type = MessageType.Append, From = 1, To = 2, Term = 9, Index = 1, LogTerm = 1, Commit = 1 }, []);
        Drain(core);
        foreach ((MessageType sent, MessageType answered, bool reject) in new[]
        {
            (MessageType.Append, MessageType.AppendResponse, false),
            (MessageType.Heartbeat, MessageType.AppendResponse, false),
            (MessageType.PreVote, MessageType.PreVoteResponse, true),
            (MessageType.Vote, MessageType.None, false),
            (MessageType.AppendResponse, MessageType.None, false),
            (MessageType.TimeoutNow, MessageType.None, false),
        })
        {
            core.Step(new RaftMessage { Type = sent, From = 3, To = 2, Term = 4, Index = 1, LogTerm = 1 }, []);
            bool any = core.TryTakeMessage(out RaftMessage answer);
            Assert.Equal((answered != MessageType.None, answered, reject), (any, answer.Type, answer.IsReject));
            Assert.True(!any || answer.Term == 9);
        }
    }

    [Fact]
    public void Append_OlderOneComesLate_CutsOffNothing_AndCommitsOnlyWhatItNames()
    {
        using var cluster = new RaftCluster(3, 0, 1);
        RaftCore core = cluster[2].Core;
        RaftEntry[] four = [Empty(2, 2), Empty(3, 2), Empty(4, 2), Empty(5, 2)];
        core.Step(new RaftMessage { Type = MessageType.Append, From = 1, To = 2, Term = 2, Index = 1, LogTerm = 1, EntryCount = 4, Commit = 1 }, four);
        core.Step(new RaftMessage { Type = MessageType.Append, From = 1, To = 2, Term = 2, Index = 1, LogTerm = 1, EntryCount = 1, Commit = 5 }, four.AsSpan(0, 1));
        Assert.Equal((5UL, 2UL), (core.LastIndex, core.Commit));

        // A conflict replaces the tail, but never what is committed.
        core.Step(new RaftMessage { Type = MessageType.Append, From = 3, To = 2, Term = 3, Index = 3, LogTerm = 2, EntryCount = 1, Commit = 1 }, [Empty(4, 3)]);
        Assert.Equal((4UL, 3UL, 2UL), (core.LastIndex, core.LastTerm, core.Commit));
        Drain(core);
    }

    [Fact]
    public void Append_NoMatch_IsRejectedWithAHintByTerm()
    {
        using var cluster = new RaftCluster(3, 0, 1);
        RaftCore core = cluster[2].Core;
        RaftEntry[] entries = [Empty(2, 2), Empty(3, 2), Empty(4, 5), Empty(5, 5)];
        core.Step(new RaftMessage { Type = MessageType.Append, From = 1, To = 2, Term = 5, Index = 1, LogTerm = 1, EntryCount = 4 }, entries);
        Drain(core);
        core.Step(new RaftMessage { Type = MessageType.Append, From = 3, To = 2, Term = 6, Index = 9, LogTerm = 4 }, []);
        _ = core.TryTakeAppend(out _);
        Assert.True(core.TryTakeMessage(out RaftMessage answer));
        Assert.Equal((true, 9UL, 3UL, 2UL), (answer.IsReject, answer.Index, answer.Hint, answer.LogTerm));
    }

    [Fact]
    public void Heartbeat_CommitBeyondTheLog_StopsTheMember()
    {
        using var cluster = new RaftCluster(3, 0, 1);
        Assert.Throws<InvariantException>(() => cluster[2].Core.Step(
            new RaftMessage { Type = MessageType.Heartbeat, From = 1, To = 2, Term = 5, Commit = 40 }, []));
    }

    [Fact]
    public void Message_NoCorrectMemberWouldSend_IsDroppedAndCounted()
    {
        using RaftCluster cluster = Led(3);
        RaftCore core = cluster.Leader!.Core;
        ulong me = core.Id, peer = me % 3 + 1, term = core.Term;
        RaftMessage[] bad =
        [
            new() { Type = MessageType.Append, From = me, To = me, Term = term },
            new() { Type = MessageType.Append, From = peer, To = me, Term = term },
            new() { Type = MessageType.Heartbeat, From = peer, To = me, Term = term },
            new() { Type = MessageType.Append, From = peer, To = peer, Term = term + 1 },
            new() { Type = MessageType.Vote, From = peer, To = me },
            new() { Type = (MessageType)99, From = peer, To = me, Term = term },
            new() { Type = MessageType.Propose, From = peer, To = me },
            new() { Type = MessageType.Heartbeat, From = peer, To = me, Term = ulong.MaxValue },
            new() { Type = MessageType.Snapshot, From = peer, To = me, Term = term + 1, Index = 90, LogTerm = term + 2 },
            new() { Type = MessageType.AppendResponse, From = peer, To = me, Term = term, Index = 1000 },
        ];
        foreach (RaftMessage message in bad)
        {
            long before = core.MessagesRefused;
            core.Step(in message, []);
            Assert.Equal(before + 1, core.MessagesRefused);
        }

        core.Step(
            new RaftMessage { Type = MessageType.Append, From = peer, To = me, Term = term + 1, Index = 1, LogTerm = 1, EntryCount = 2 },
            [Empty(2, 1), Empty(4, 1)]);
        core.Step(new RaftMessage { Type = MessageType.AppendResponse, From = 77, To = me, Term = term, Index = 1 }, []);
        Assert.Equal((RaftRole.Leader, term), (core.Role, core.Term));
    }

    [Fact]
    public void Leader_HearsNobody_StepsDownWithinAnElectionTimeout()
    {
        using RaftCluster cluster = Led(3);
        RaftCluster.Node leader = cluster.Leader!;
        leader.Tick(21);
        Assert.Equal((RaftRole.Follower, 0UL), (leader.Core.Role, leader.Core.Leader));
    }

    [Fact]
    public void Transfer_ToACaughtUpVoter_MovesLeadershipWithoutATimeout_AndRefusesProposalsMeanwhile()
    {
        using RaftCluster cluster = Led(3);
        RaftCluster.Node leader = cluster.Leader!;
        ulong target = leader.Id % 3 + 1;
        leader.Core.TransferLeader(target);
        Span<RaftProposal> batch = [new RaftProposal { Length = 1 }];
        leader.Core.Propose(batch);
        Assert.Equal(ProposalResult.Transferring, batch[0].Result);
        cluster.Settle(1);
        Assert.Equal(target, cluster.Leader!.Id);
        Assert.Equal(RaftRole.Follower, leader.Core.Role);
    }

    [Fact]
    public void Transfer_ToSomebodySilent_IsGivenUp()
    {
        using RaftCluster cluster = Led(3);
        RaftCluster.Node leader = cluster.Leader!;
        ulong target = leader.Id % 3 + 1, other = target % 3 + 1;
        leader.Core.TransferLeader(target);
        for (int i = 0; i < 12; i++)
        {
            leader.Tick(1);
            _ = leader.Flow();
            cluster.Network.RemoveAll(p => p.Message.To == target);
            while (cluster.Network.Count > 0)
            {
                cluster.Deliver(0, false);
                _ = cluster[other].Flow();
                _ = leader.Flow();
                cluster.Network.RemoveAll(p => p.Message.To == target);
            }
        }

        Assert.Equal((RaftRole.Leader, 0UL), (leader.Core.Role, leader.Core.Transferee));
    }

    [Fact]
    public void Window_Full_StopsSending_AndAHeartbeatResponseAllowsOneEmptyAppend()
    {
        using RaftCluster cluster = Led(3, c => c with { MaxInFlightMessages = 2 });
        RaftCluster.Node leader = cluster.Leader!;
        ulong peer = leader.Id % 3 + 1;
        for (int i = 0; i < 5; i++)
        {
            cluster.Propose(leader);
        }

        _ = leader.Take();
        Assert.Equal(2, cluster.Network.FindAll(p => p.Message.To == peer && p.Entries.Count > 0).Count);
        cluster.Network.Clear();
        leader.Core.Step(new RaftMessage { Type = MessageType.HeartbeatResponse, From = peer, To = leader.Id, Term = leader.Core.Term }, []);
        _ = leader.Take();
        RaftCluster.Packet only = Assert.Single(cluster.Network.FindAll(p => p.Message.To == peer));
        Assert.Equal((MessageType.Append, 0), (only.Message.Type, only.Entries.Count));
        cluster.Settle(5);
        Assert.Equal(leader.Core.LastIndex, cluster[peer].Core.Commit); // and so it heals
    }

    [Fact]
    public void Window_Bytes_CountTooAndTheOneThatCrossesIsStillSent()
    {
        var window = new InFlightWindow(100, 10);
        window.Add(1, 6);
        Assert.False(window.IsFull);
        window.Add(2, 60);
        Assert.True(window.IsFull);
        window.Free(1);
        Assert.True(window.IsFull);
        window.Free(2);
        Assert.Equal((false, 0, 0L), (window.IsFull, window.Count, window.Bytes));
    }

    [Fact]
    public void Forwarded_SameFrameTwice_IsAppendedOnce_AndNeverInAnotherTerm()
    {
        using RaftCluster cluster = Led(3);
        RaftCluster.Node leader = cluster.Leader!;
        RaftCluster.Node follower = cluster[leader.Id % 3 + 1];
        cluster.Propose(follower);
        RaftCluster.Packet frame = Assert.Single(cluster.Network);
        ulong last = leader.Core.LastIndex;
        leader.Step(frame);
        leader.Step(frame);
        Assert.Equal(last + 1, leader.Core.LastIndex);
        leader.Step(frame with { Message = frame.Message with { LogTerm = frame.Message.LogTerm - 1, Index = 50 } });
        Assert.Equal(last + 1, leader.Core.LastIndex);
        leader.Step(frame with { Message = frame.Message with { Boot = 99 } }); // another start of that member
        Assert.Equal(last + 2, leader.Core.LastIndex);
        cluster.Network.Clear();
    }

    [Fact]
    public void Guard_DrawnNumbers_AcceptsEachOnce()
    {
        Gen.ULong[1, 9000].Array[1, 300].Sample(
            numbers =>
            {
                var guard = new ForwardGuard();
                var seen = new HashSet<ulong>();
                foreach (ulong number in numbers)
                {
                    bool isNew = guard.TryAccept(1, 1, number);
                    Assert.True(!isNew || seen.Add(number));
                    Assert.True(guard.TryAccept(2, 1, number) == isNew); // windows are per origin and boot, and alike
                }
            },
            iter: 300);
    }

    [Fact]
    public void Read_OnAFollower_IsAnsweredByTheLeaderAfterAQuorumRound_AndFailsWithTheLeader()
    {
        using RaftCluster cluster = Led(3);
        RaftCluster.Node leader = cluster.Leader!;
        RaftCluster.Node follower = cluster[leader.Id % 3 + 1];
        follower.Read();
        leader.Read();
        cluster.Settle(1);
        Assert.Equal(2, cluster.ConfirmedReads);
        Assert.Equal(ReadIndexResult.Waiting, follower.Core.ReadIndex(7, out _));
        follower.Core.ForgetLeader();
        Assert.Equal(ReadIndexResult.NotLeader, follower.Core.ReadIndex(8, out _));
        follower.Tick(40); // campaigns: what was forwarded will not be waited for
        Assert.True(follower.Core.TryTakeRead(out ReadState read));
        Assert.Equal((7UL, false), (read.Context, read.IsConfirmed));
    }

    [Fact]
    public void Lagging_BehindMemory_IsServedByFetches_BehindTheLogByASnapshot()
    {
        using RaftCluster cluster = Led(3);
        RaftCluster.Node leader = cluster.Leader!;
        RaftCluster.Node lagging = cluster[leader.Id % 3 + 1];
        Isolate(cluster, lagging, () =>
        {
            for (int i = 0; i < 40; i++)
            {
                cluster.Propose(leader);
            }
        });
        Assert.Equal(LogAnswer.Pending, leader.Core.Locate(lagging.Core.LastIndex + 1));
        cluster.Settle(30);
        Assert.Equal(cluster.Leader!.Core.Commit, lagging.Core.Commit);
        Assert.Equal(0UL, lagging.Core.PendingSnapshot);
        Assert.True(lagging.SnapshotIndex == 1, "no snapshot was needed");

        leader = cluster.Leader!;
        lagging = cluster[leader.Id % 3 + 1];
        Isolate(cluster, lagging, () =>
        {
            for (int i = 0; i < 40; i++)
            {
                cluster.Propose(leader);
            }
        });
        leader.Snapshot(2);
        Assert.Equal(LogAnswer.Compacted, leader.Core.Locate(lagging.Core.LastIndex + 1));
        cluster.Settle(40);
        Assert.Equal(cluster.Leader!.Core.Commit, lagging.Core.Applied);
        Assert.True(lagging.SnapshotIndex > 40);
    }

    [Fact]
    public void JointChange_TwoStepsAtOnce_IsLeftByItself_AndARemovedLeaderStepsDown()
    {
        using RaftCluster cluster = new(3, 2, 3);
        cluster.Settle(40);
        RaftCluster.Node leader = cluster.Leader!;
        var change = new ConfChangeV2
        {
            Steps = [(ConfChangeType.AddNode, 4), (ConfChangeType.AddNode, 5), (ConfChangeType.RemoveNode, leader.Id)],
        };
        leader.Propose(change.ToBytes(), EntryType.ConfChangeV2);
        cluster.Settle(60);
        Assert.NotEqual(RaftRole.Leader, leader.Core.Role);
        RaftCluster.Node next = cluster.Leader!;
        Assert.NotEqual(leader, next);
        Assert.False(next.Core.Configuration.IsJoint);
        Assert.Equal(4, next.Core.Configuration.Incoming.Length);
        Assert.DoesNotContain(leader.Id, next.Core.Configuration.Incoming);
    }

    [Fact]
    public void Schedule_EveryFaultOfNetworkAndProcess_KeepsTheRules()
    {
        long commits = 0, reads = 0, snapshots = 0;
        Gen.Select(Gen.ULong, Gen.Int[1, 5], Gen.Int[0, 1], Gen.Int[0, 3], Gen.Int[0, 3]).Sample(
            (seed, voters, learners, loss, crashes) =>
            {
                RaftCluster cluster = Run(seed, voters, learners, loss, crashes);
                System.Threading.Interlocked.Add(ref commits, (long)cluster.HighestCommit);
                System.Threading.Interlocked.Add(ref reads, cluster.ConfirmedReads);
                foreach (RaftCluster.Node node in cluster.Nodes)
                {
                    System.Threading.Interlocked.Add(ref snapshots, node.SnapshotIndex > 1 ? 1 : 0);
                }

                cluster.Dispose();
            },
            iter: 600);
        output.WriteLine($"{commits} entries committed, {reads} reads confirmed, {snapshots} members with snapshots");
        Assert.True(commits > 0 && reads > 0 && snapshots > 0);
    }

    // First: a snapshot from before the peer came back would be refused by it for ever, the leader asks for a newer one.
    // Second: a leader that removes itself when the faults end.
    [Theory]
    [InlineData(3833943069670335, 2, 0, 0, 0)]
    [InlineData(136, 5, 1, 2, 0)]
    public void Schedule_ThatFailedOnce_KeepsTheRules(ulong seed, int voters, int learners, int loss, int crashes) =>
        Run(seed, voters, learners, loss, crashes).Dispose();

    private static RaftCluster Run(ulong seed, int voters, int learners, int loss, int crashes)
    {
        var random = new RaftCluster.SplitMix(seed ^ 0xabcdef);
        int window = 1 + (int)(random.NextUInt64() % 6);
        long message = random.NextUInt64() % 2 == 0 ? 1 : 40;
        var cluster = new RaftCluster(
            voters, learners, seed, c => c with { MaxInFlightMessages = window, MaxMessageBytes = message, MaxUnitEntries = 3 });
        for (int step = 0; step < 1500; step++)
        {
            int draw = (int)(random.NextUInt64() % 100);
            RaftCluster.Node node = cluster.Nodes[(int)(random.NextUInt64() % (ulong)cluster.Nodes.Count)];
            int amount = (int)(random.NextUInt64() % 8);
            switch (draw)
            {
                case < 18:
                    node.Tick(1 + (amount / 3));
                    break;
                case < 34:
                    _ = node.Take();
                    break;
                case < 46:
                    _ = node.Sync(1 + (amount % 3));
                    break;
                case < 54:
                    _ = node.Apply(1 + amount);
                    break;
                case < 62:
                    cluster.Propose(node);
                    break;
                case < 65:
                    node.Read();
                    break;
                case < 66:
                    node.Snapshot((ulong)amount);
                    break;
                case < 67 when amount < crashes:
                    node.Crash(amount);
                    break;
                case < 68 when amount == 0:
                    node.Core.TransferLeader(1 + (random.NextUInt64() % (ulong)cluster.Nodes.Count));
                    break;
                case < 69 when amount == 0:
                    node.Core.ReportUnreachable(1 + (random.NextUInt64() % (ulong)cluster.Nodes.Count));
                    break;
                case < 70 when amount < 2:
                    node.Core.ReportSnapshot(1 + (random.NextUInt64() % (ulong)cluster.Nodes.Count), amount == 0);
                    break;
                case < 71 when amount == 0:
                    ProposeChange(node, random, cluster.Nodes.Count);
                    break;
                default:
                    for (int i = 0; i < 3 && cluster.Network.Count > 0; i++)
                    {
                        int position = (int)(random.NextUInt64() % (ulong)Math.Min(cluster.Network.Count, 6));
                        int fate = (int)(random.NextUInt64() % 20);
                        if (fate < loss)
                        {
                            cluster.Network.RemoveAt(position);
                        }
                        else
                        {
                            cluster.Deliver(position, keep: fate == 19 && loss > 0);
                        }
                    }

                    break;
            }
        }

        // Faults end: somebody leads, and what it commits reaches everybody (R20).
        foreach (RaftCluster.Node node in cluster.Nodes)
        {
            for (ulong peer = 1; peer <= (ulong)cluster.Nodes.Count; peer++)
            {
                node.Core.ReportSnapshot(peer, false); // the transport reports every outcome
            }
        }

        cluster.Settle(120);
        RaftCluster.Node? leader = cluster.Leader;
        Assert.True(leader != null, "somebody leads after the faults (R20)\n" + State(cluster));
        for (RaftCluster.Node? last = null; last != leader && leader != null;)
        {
            last = leader; // one that is about to remove itself is followed by another
            cluster.Propose(leader);
            cluster.Settle(60);
            leader = cluster.Leader;
        }

        Assert.True(leader != null, "somebody leads in the end (R20)\n" + State(cluster));
        foreach (RaftCluster.Node node in cluster.Nodes)
        {
            // Members of the configuration have everything; one that is not in it may be left where it was.
            Assert.True(
                node.Core.Applied == leader.Core.LastIndex || !leader.Core.Configuration.Contains(node.Id),
                $"member {node.Id} stays behind (R20)\n{State(cluster)}");
        }

        cluster.CheckOnce();
        return cluster;
    }

    private static string State(RaftCluster cluster)
    {
        var text = new System.Text.StringBuilder();
        foreach (RaftCluster.Node node in cluster.Nodes)
        {
            RaftCore core = node.Core;
            text.Append($"{node.Id}: {core.Role} term {core.Term} vote {core.Vote} leader {core.Leader} last {core.LastTerm}/{core.LastIndex} ");
            text.Append($"commit {core.Commit} durable {core.Durable} applied {core.Applied} installing {core.PendingSnapshot} ");
            ConfState state = core.Configuration.ToConfState();
            text.Append($"voters {string.Join(',', state.Voters)} && {string.Join(',', state.VotersOutgoing)} learners {string.Join(',', state.Learners)}");
            for (int i = 0; i < core.ProgressCount && core.Role == RaftRole.Leader; i++)
            {
                text.Append("\n   ").Append(core.ProgressAt(i));
            }

            text.Append('\n');
        }

        return text.ToString();
    }

    private static void ProposeChange(RaftCluster.Node node, RaftCluster.SplitMix random, int members)
    {
        if (node.Core.Role != RaftRole.Leader)
        {
            return;
        }

        var steps = new (ConfChangeType, ulong)[1 + (int)(random.NextUInt64() % 2)];
        for (int i = 0; i < steps.Length; i++)
        {
            ConfChangeType type = (random.NextUInt64() % 3) switch
            {
                0 => ConfChangeType.AddLearnerNode,
                1 => ConfChangeType.RemoveNode,
                _ => ConfChangeType.AddNode,
            };
            steps[i] = (type, 1 + (random.NextUInt64() % (ulong)members));
        }

        node.Propose(new ConfChangeV2 { Steps = steps }.ToBytes(), EntryType.ConfChangeV2);
    }

    private static void Isolate(RaftCluster cluster, RaftCluster.Node node, Action during)
    {
        during();
        for (int i = 0; i < 30; i++)
        {
            foreach (RaftCluster.Node other in cluster.Nodes)
            {
                if (other != node)
                {
                    other.Tick(i % 5 == 0 ? 1 : 0);
                    _ = other.Flow();
                }
            }

            cluster.Network.RemoveAll(p => p.Message.To == node.Id || p.Message.From == node.Id);
            while (cluster.Network.Count > 0)
            {
                cluster.Deliver(0, keep: false);
            }
        }
    }

    private static void Drain(RaftCore core)
    {
        while (core.TryTakeAppend(out AppendUnit unit))
        {
            core.WalDurable(unit.Sequence);
        }

        while (core.TryTakeMessage(out _))
        {
        }
    }

    private static RaftEntry Empty(ulong index, ulong term) => new() { Index = index, Term = term };

    private static RaftCluster Led(int voters, Func<RaftConfig, RaftConfig>? tune = null)
    {
        var cluster = new RaftCluster(voters, 0, 42, tune);
        cluster.Settle(60);
        Assert.NotNull(cluster.Leader);
        return cluster;
    }
}
