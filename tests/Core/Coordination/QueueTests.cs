// QueueTests: locks and elections of whole members, without sockets: the order of a queue, who gives up, whose lease ends,
// what is told to observers; and random users at all members of a cluster, of whom never two hold the lock.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;
using System.Threading.Tasks;
using Cairn.Core.Coordination;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Core.Tests.Server;
using Xunit;
using static Cairn.Core.Tests.Server.PolledCluster;

namespace Cairn.Core.Tests.Coordination;

public sealed class QueueTests
{
    private static readonly byte[] s_name = "jobs"u8.ToArray();

    [Theory]
    [InlineData(1, "1")]
    [InlineData(255, "ff")]
    [InlineData(0x7d7ba205440fde33, "7d7ba205440fde33")]
    [InlineData(-9, "-9")]
    [InlineData(long.MinValue, "-8000000000000000")]
    public void Key_OfALease_IsGosHexadecimal(long lease, string expected)
        => Assert.Equal("jobs/" + expected, Encoding.ASCII.GetString(QueueKeys.Key(QueueKeys.Prefix(s_name), lease)));

    [Fact]
    public void Lock_Waiters_AreServedInOrderAndMayGiveUp()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        _ = cluster.WaitForLeader();
        List<User> users = [];
        for (int i = 0; i < 5; i++)
        {
            users.Add(new User(cluster, cluster.Nodes[i % 3], 0x10 + i));
            users[i].Grant(600);
            users[i].Lock();
            int here = i;
            cluster.RunReal(() => cluster.Nodes[here % 3].Read(users[here].Key) is not null, "the key of " + users[i].Key);
        }

        Assert.Equal(ErrorCode.None, users[0].Locked("the first").Outcome);
        Assert.False(users[1].IsDone || users[2].IsDone || users[3].IsDone || users[4].IsDone);

        // The third gives up: its key goes, nobody is let in by it.
        users[2].Leave();
        users[2].Locked("the third to leave");
        cluster.RunReal(() => cluster.Nodes.TrueForAll(node => node.Read(users[2].Key) is null), "the third's key to go");
        Assert.False(users[1].IsDone || users[3].IsDone || users[4].IsDone);

        users[0].Unlock();
        LockResult second = users[1].Locked("the second");
        Assert.Equal((ErrorCode.None, users[1].Key), (second.Outcome, Encoding.ASCII.GetString(second.Key)));
        Assert.False(users[3].IsDone);

        // The fifth's lease ends while it waits for the fourth: it hears so when its turn comes.
        users[4].Revoke();
        users[1].Unlock();
        Assert.Equal(ErrorCode.None, users[3].Locked("the fourth").Outcome);
        Assert.False(users[4].IsDone);
        users[3].Unlock();
        Assert.Equal(ErrorCode.MutexSessionExpired, users[4].Locked("the fifth").Outcome);

        // A holder that asks again has it at once; nobody waits behind.
        User again = new(cluster, cluster.Nodes[0], 0x20);
        again.Grant(600);
        again.Lock();
        Assert.Equal(ErrorCode.None, again.Locked("a new one").Outcome);
        again.Lock();
        Assert.Equal(ErrorCode.None, again.Locked("the same again").Outcome);
        cluster.Settle();
        cluster.AssertSame();
        cluster.RunReal(() => cluster.Nodes.TrueForAll(node => node.Member!.Watch.Figures.Watchers == 0), "no watcher is left");
    }

    [Fact]
    public void Lock_WithoutALease_GetsOneOfAMinuteThatNobodyRenews()
    {
        using var cluster = new PolledCluster(1);
        cluster.StartAll();
        Node node = cluster.WaitForLeader();
        User user = new(cluster, node, 0);
        user.Lock();
        LockResult result = user.Locked("the lock");
        string key = Encoding.ASCII.GetString(result.Key);
        long lease = long.Parse(key["jobs/".Length..], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        Assert.True(node.Member!.Leases.TryGet(lease, cluster.Clock.NowNs, out Core.Leases.LeaseTime time));
        Assert.Equal(60, time.TtlSeconds);

        User next = new(cluster, node, 0x10);
        next.Grant(600);
        next.Lock();
        cluster.Pass(55_000_000_000);
        Assert.False(next.IsDone);
        cluster.Run(() => node.Read(key) is null, "the lease's end", 10_000_000_000);
        Assert.Equal(ErrorCode.None, next.Locked("the next").Outcome);
    }

    [Fact]
    public void Lock_OfAnUnknownLease_IsRefused()
    {
        using var cluster = new PolledCluster(1);
        cluster.StartAll();
        User user = new(cluster, cluster.WaitForLeader(), 99);
        user.Lock();
        Assert.Equal(ErrorCode.LeaseNotFound, user.Locked("the refusal").Outcome);
    }

    [Fact]
    public void Lock_ThePredecessorsHistoryIsCompacted_StillWaitsForIt()
    {
        using var cluster = new PolledCluster(1);
        cluster.StartAll();
        Node node = cluster.WaitForLeader();
        User first = new(cluster, node, 1), second = new(cluster, node, 2);
        first.Grant(600);
        second.Grant(600);
        first.Lock();
        Assert.Equal(ErrorCode.None, first.Locked("the first").Outcome);
        second.Lock();
        cluster.RunReal(() => node.Read(second.Key) is not null, "the second's key");
        for (int i = 0; i < 30; i++)
        {
            Assert.Equal(ErrorCode.None, node.PutAndWait("x", "y"));
            Write compact = node.Propose(RequestKind.Compaction, Requests.Compaction(node.Member!.Status.Revision));
            cluster.Run(() => compact.IsCompleted, "compaction");
            Assert.Equal(ErrorCode.None, compact.End());
        }

        Assert.False(second.IsDone);
        first.Unlock();
        Assert.Equal(ErrorCode.None, second.Locked("the second").Outcome);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Lock_RandomUsersAtEveryMember_NeverTwoHoldIt(int seed)
    {
        var random = new Random(seed);
        using var cluster = new PolledCluster(3, seed: (ulong)seed);
        cluster.StartAll();
        _ = cluster.WaitForLeader();
        List<User> users = [];
        for (int i = 0; i < 9; i++)
        {
            users.Add(new User(cluster, cluster.Nodes[i % 3], 0x100 + i));
            users[i].Grant(3600);
        }

        int held = 0;
        User? holder = null;
        for (int step = 0; step < 150; step++)
        {
            User user = users[random.Next(users.Count)];
            if (user == holder)
            {
                holder.Unlock();
                holder = null;
            }
            else if (!user.IsWaiting)
            {
                user.Lock();
            }
            else if (random.Next(4) == 0)
            {
                user.Leave();
                LockResult left = user.Locked("the end of one that leaves");
                if (left.Outcome == ErrorCode.None && left.Key.Length > 0)
                {
                    // It had become the holder before it left.
                    Assert.Null(holder);
                    user.Unlock();
                }
            }

            for (int polls = random.Next(40); polls > 0; polls--)
            {
                _ = cluster.PollOnce();
                cluster.Clock.NowNs += 100_000;
            }

            foreach (User one in users)
            {
                if (one.IsWaiting && one.IsDone)
                {
                    LockResult result = one.Locked("an answer");
                    Assert.Equal(ErrorCode.None, result.Outcome);
                    Assert.True(holder is null, $"seed {seed} step {step}: {one.Key} got the lock while {holder?.Key} holds it");
                    holder = one;
                    held++;
                }
            }
        }

        // Everybody who waits gets it in the end, one after the other.
        while (true)
        {
            holder?.Unlock();
            holder = null;
            if (!users.Exists(static user => user.IsWaiting))
            {
                break;
            }

            cluster.RunReal(() => users.Exists(static user => user.IsWaiting && user.IsDone), $"seed {seed}: the next holder");
            holder = users.Find(static user => user.IsWaiting && user.IsDone)!;
            Assert.Equal(ErrorCode.None, holder.Locked("the next holder").Outcome);
            held++;
        }

        Assert.True(held > 10, $"seed {seed}: only {held} times held");
    }

    [Fact]
    public async Task Election_CampaignProclaimResign_ToldToObserversOfEveryMember()
    {
        using var cluster = new PolledCluster(3);
        cluster.StartAll();
        _ = cluster.WaitForLeader();
        List<Observer> observers = [];
        foreach (Node node in cluster.Nodes)
        {
            observers.Add(new Observer(cluster, node));
        }

        Node here = cluster.Nodes[0];
        User first = new(cluster, here, 1), second = new(cluster, cluster.Nodes[1], 2);
        first.Grant(600);
        second.Grant(600);
        Assert.Equal(ErrorCode.ElectionNoLeader, Elect(cluster, here, (e, c) => e.LeaderAsync(c, s_name)).Outcome);
        ElectionResult one = Elect(cluster, here, (e, c) => e.CampaignAsync(c, s_name, 1, "a"u8.ToArray()));
        Assert.Equal((ErrorCode.None, "jobs/1"), (one.Outcome, Encoding.ASCII.GetString(one.Leader!.Key)));
        WaitFor(observers, "a");

        var waiting = new Caller(cluster.Nodes[1].Member!);
        Task<ElectionResult> two = new Elections(cluster.Nodes[1].Member!, cluster.Clock)
            .CampaignAsync(waiting, s_name, 2, "b"u8.ToArray()).AsTask();
        Assert.Equal(ErrorCode.None, Elect(cluster, here, (e, c) => e.ProclaimAsync(c, one.Leader, "a2"u8.ToArray())).Outcome);
        WaitFor(observers, "a", "a2");
        Assert.False(two.IsCompleted);
        Assert.Equal(ErrorCode.None, Elect(cluster, cluster.Nodes[2], (e, c) => e.ResignAsync(c, one.Leader)).Outcome);
        cluster.RunReal(() => two.IsCompleted, "the second leader");
        ElectionResult next = await two;
        Assert.Equal(ErrorCode.None, next.Outcome);
        WaitFor(observers, "a", "a2", "b");

        // Who leads no longer cannot proclaim; resigning again is nothing.
        Assert.Equal(ErrorCode.ElectionNotLeader, Elect(cluster, here, (e, c) => e.ProclaimAsync(c, one.Leader, "x"u8.ToArray())).Outcome);
        Assert.Equal(ErrorCode.None, Elect(cluster, here, (e, c) => e.ResignAsync(c, one.Leader)).Outcome);

        // The same lease campaigns again with another value: it proclaims that.
        ElectionResult more = Elect(cluster, here, (e, c) => e.CampaignAsync(c, s_name, 2, "b2"u8.ToArray()));
        Assert.Equal(next.Leader!.Revision, more.Leader!.Revision);
        WaitFor(observers, "a", "a2", "b", "b2");
        foreach (Observer observer in observers)
        {
            observer.End();
        }

        cluster.RunReal(() => cluster.Nodes.TrueForAll(node => node.Member!.Watch.Figures.Watchers == 0), "no watcher is left");

        void WaitFor(List<Observer> all, params string[] values)
        {
            cluster.RunReal(() => all.TrueForAll(observer => observer.Count >= values.Length), "observers hear " + values[^1]);
            Assert.All(all, observer => Assert.Equal(values, observer.Values));
        }
    }

    [Fact]
    public void Campaign_ItsCallerLeaves_TakesItsKeyBack()
    {
        using var cluster = new PolledCluster(1);
        cluster.StartAll();
        Node node = cluster.WaitForLeader();
        User first = new(cluster, node, 1), second = new(cluster, node, 2);
        first.Grant(600);
        second.Grant(600);
        Assert.Equal(ErrorCode.None, Elect(cluster, node, (e, c) => e.CampaignAsync(c, s_name, 1, "a"u8.ToArray())).Outcome);
        var caller = new Caller(node.Member!);
        Task<ElectionResult> waiting = new Elections(node.Member!, cluster.Clock).CampaignAsync(caller, s_name, 2, []).AsTask();
        cluster.RunReal(() => node.Read("jobs/2") is not null, "the second's key");
        caller.Leave();
        cluster.RunReal(() => waiting.IsCompleted, "the second's end");
        Assert.Null(node.Read("jobs/2"));
        Assert.Equal("a", node.Read("jobs/1"));
    }

    private static ElectionResult Elect(PolledCluster cluster, Node node, Func<Elections, Caller, ValueTask<ElectionResult>> call)
    {
        Task<ElectionResult> task = call(new Elections(node.Member!, cluster.Clock), new Caller(node.Member!)).AsTask();
        cluster.RunReal(() => task.IsCompleted, "an election call");
        return task.Result;
    }

    /// <summary>A caller that waits for ever, until it leaves.</summary>
    private sealed class Caller(Member member) : ICaller
    {
        private readonly object _gate = new();
        private TaskCompletionSource _wake = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private volatile bool _gone;

        public bool IsGone => _gone;

        public long DeadlineNs => long.MaxValue;

        public RequestSlot Rent() => member.Rent();

        public async ValueTask WaitAsync()
        {
            if (_gone)
            {
                return;
            }

            await _wake.Task;
            lock (_gate)
            {
                _wake = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            }
        }

        public void Wake()
        {
            lock (_gate)
            {
                _wake.TrySetResult();
            }
        }

        public void Leave()
        {
            _gone = true;
            Wake();
        }
    }

    /// <summary>Somebody with a lease who locks at one member.</summary>
    private sealed class User(PolledCluster cluster, Node node, long lease)
    {
        private Caller? _caller;
        private Task<LockResult>? _locking;

        public string Key => "jobs/" + lease.ToString("x", CultureInfo.InvariantCulture);

        /// <summary>Asked, and the answer not taken yet.</summary>
        public bool IsWaiting => _locking is not null;

        public bool IsDone => _locking!.IsCompleted;

        public void Grant(long seconds) => Do(RequestKind.LeaseGrant, Requests.Numbers(seconds, lease));

        public void Revoke() => Do(RequestKind.LeaseRevoke, Requests.Numbers(lease));

        public void Lock()
        {
            _caller = new Caller(node.Member!);
            _locking = new Locks(node.Member!, cluster.Clock).LockAsync(_caller, s_name, lease).AsTask();
        }

        public void Leave() => _caller!.Leave();

        public LockResult Locked(string what)
        {
            cluster.RunReal(() => _locking!.IsCompleted, what);
            LockResult result = _locking!.Result;
            _locking = null;
            return result;
        }

        public void Unlock()
        {
            Task<LockResult> unlocking = new Locks(node.Member!, cluster.Clock)
                .UnlockAsync(new Caller(node.Member!), Encoding.ASCII.GetBytes(Key)).AsTask();
            cluster.RunReal(() => unlocking.IsCompleted, "unlock");
            Assert.Equal(ErrorCode.None, unlocking.Result.Outcome);
        }

        private void Do(RequestKind kind, byte[] body)
        {
            Write write = node.Propose(kind, body);
            cluster.Run(() => write.IsCompleted, kind.ToString());
            Assert.Equal(ErrorCode.None, write.End());
        }
    }

    /// <summary>Somebody who wants to know who leads.</summary>
    private sealed class Observer : ILeaderSink
    {
        private readonly PolledCluster _cluster;
        private readonly Caller _caller;
        private readonly List<string> _values = [];
        private readonly Task<ErrorCode> _observing;

        public Observer(PolledCluster cluster, Node node)
        {
            _cluster = cluster;
            _caller = new Caller(node.Member!);
            _observing = new Elections(node.Member!, cluster.Clock).ObserveAsync(_caller, s_name, this).AsTask();
        }

        public int Count
        {
            get
            {
                lock (_values)
                {
                    return _values.Count;
                }
            }
        }

        public string[] Values
        {
            get
            {
                lock (_values)
                {
                    return [.. _values];
                }
            }
        }

        public ValueTask<bool> TellAsync(byte[] header, long revision, byte[] pair)
        {
            Assert.True(KeyValue.TryParse(pair, out KeyValue parsed));
            Assert.True(revision >= parsed.ModRevision);
            lock (_values)
            {
                _values.Add(Encoding.ASCII.GetString(parsed.Value));
            }

            return new ValueTask<bool>(true);
        }

        public void End()
        {
            _caller.Leave();
            Assert.Equal(ErrorCode.None, _cluster.Await(_observing, "the observer's end"));
        }
    }
}
