// PolledCluster: several members over directories and a network in memory, driven by the test's own thread: every actor is
// polled in turn, and simulated time moves when nothing else does. No threads, no sleeps, no real clock: a slow machine
// only takes longer.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Xunit;

namespace Cairn.Core.Tests.Server;

/// <summary>Time that the cluster moves.</summary>
internal sealed class StepClock : IClock
{
    public long NowNs { get; set; } = 1_000_000_000;

    public long UnixMilliseconds => 1_800_000_000_000 + (NowNs / 1_000_000);
}

internal sealed class PolledCluster : IDisposable
{
    private const long PatienceNs = 120_000_000_000;
    private readonly List<TempDir> _directories = [];
    private ulong _seed;

    public PolledCluster(int members, Func<MemberOptions, MemberOptions>? tune = null, ulong seed = 1)
    {
        Tune = tune ?? (options => options);
        _seed = seed;
        Network = new MemoryNetwork { Clock = Clock };
        List<InitialMember> initial = [];
        for (int i = 0; i < members; i++)
        {
            initial.Add(new InitialMember(Name(i), [Url(i)]));
        }

        Initial = initial;
        for (int i = 0; i < members; i++)
        {
            Nodes.Add(new Node(this, i, OptionsFor(i)));
        }
    }

    public Func<MemberOptions, MemberOptions> Tune { get; }

    public IReadOnlyList<InitialMember> Initial { get; }

    public StepClock Clock { get; } = new();

    public MemoryNetwork Network { get; }

    public List<Node> Nodes { get; } = [];

    public static string Name(int i) => "m" + i.ToString(CultureInfo.InvariantCulture);

    public static string Url(int i) => string.Create(CultureInfo.InvariantCulture, $"http://10.0.0.{i + 1}:2380");

    /// <summary>The running member that leads and is known as the leader by most.</summary>
    public Node? Leader
    {
        get
        {
            foreach (Node node in Nodes)
            {
                if (node.Member is { } member && member.Status.Leader == member.Id)
                {
                    int known = 0, running = 0;
                    foreach (Node other in Nodes)
                    {
                        running += other.Member is not null ? 1 : 0;
                        known += other.Member?.Status.Leader == member.Id && other.Member.Status.Term == member.Status.Term ? 1 : 0;
                    }

                    if (known > running / 2)
                    {
                        return node;
                    }
                }
            }

            return null;
        }
    }

    public void StartAll()
    {
        foreach (Node node in Nodes)
        {
            node.Start();
        }

        Run(() => Nodes.TrueForAll(node => node.Member is null || node.Member.Ready.IsCompleted), "all ready");
    }

    /// <summary>Adds a node that joins what is running.</summary>
    public Node Join(ulong id)
    {
        int i = Nodes.Count;
        Member any = (Leader ?? Nodes.Find(node => node.Member is not null))!.Member!; // one of two may have no quorum yet
        MemberOptions options = OptionsFor(i) with
        {
            InitialClusterState = InitialClusterState.Existing,
            Joined = new JoinedCluster(any.ClusterId, id, any.ClusterView.Members.ToArray()),
        };
        var node = new Node(this, i, options);
        Nodes.Add(node);
        return node;
    }

    public MemberOptions OptionsFor(int i)
    {
        var directory = new TempDir();
        _directories.Add(directory);
        return Tune(new MemberOptions
        {
            Name = Name(i),
            DataDir = directory.Path,
            InitialAdvertisePeerUrls = [Url(i)],
            AdvertiseClientUrls = [string.Create(CultureInfo.InvariantCulture, $"http://10.0.0.{i + 1}:2379")],
            InitialCluster = Initial,
            InitialClusterToken = "test",
            RequestSlots = 64,
            WalSegmentBytes = 1 << 20,
            UnsafeNoSync = true,
            TreeReserveBytes = 64 << 20,
            StrictReconfigCheck = false,
        });
    }

    public bool PollOnce()
    {
        bool worked = Network.Pump();
        foreach (Node node in Nodes)
        {
            worked |= node.Poll();
        }

        return worked;
    }

    /// <summary>Polls until a condition holds; time moves to the next deadline when nothing else happens.</summary>
    public void Run(Func<bool> until, string what, long withinNs = PatienceNs)
    {
        Assert.True(TryRun(until, withinNs), $"nothing came of '{what}'\n{Describe()}");
    }

    public bool TryRun(Func<bool> until, long withinNs)
    {
        long end = Clock.NowNs + withinNs;
        int idle = 0;
        while (!until())
        {
            if (PollOnce())
            {
                idle = 0;
                Clock.NowNs += 20_000;
            }
            else if (++idle > 1)
            {
                // Awaiting code of the member runs on the pool: give it its chance before time jumps.
                System.Threading.Thread.Yield();
                Clock.NowNs += 1_000_000;
            }

            if (Clock.NowNs > end)
            {
                return false;
            }
        }

        return true;
    }

    public void Pass(long ns) => _ = TryRun(() => false, ns);

    /// <summary>Adds a member through the leader.</summary>
    public ulong Add(string url, bool isLearner)
    {
        Task<(ErrorCode Outcome, ClusterMember Member)> adding =
            Leader!.Member!.AddMemberAsync([url], isLearner, long.MaxValue);
        RunReal(() => adding.IsCompleted, "add");
        Assert.Equal(ErrorCode.None, adding.Result.Outcome);
        return adding.Result.Member.Id;
    }

    public ErrorCode Await(Task<ErrorCode> task, string what)
    {
        RunReal(() => task.IsCompleted, what);
        return task.Result;
    }

    /// <summary>As Run, for things that wait for the thread pool too: real time counts as well.</summary>
    public void RunReal(Func<bool> until, string what)
    {
        long giveUp = SystemClock.Instance.NowNs + 60_000_000_000;
        while (!until())
        {
            if (!PollOnce())
            {
                // As much simulated time as real time: what runs on the thread pool is not to miss its deadlines.
                System.Threading.Thread.Sleep(1);
                Clock.NowNs += 1_000_000;
            }
            else
            {
                Clock.NowNs += 20_000;
            }

            Assert.True(SystemClock.Instance.NowNs < giveUp, $"nothing came of '{what}'\n{Describe()}");
        }
    }

    public Node WaitForLeader(Node? other = null)
    {
        Run(() => Leader is { } leader && leader != other, "a leader");
        return Leader!;
    }

    /// <summary>Every running member has applied what the leader has committed.</summary>
    public void Settle()
    {
        Run(
            () => Leader is { } leader && Nodes.TrueForAll(node => node.Member is null
                || node.Member.Status.AppliedIndex >= leader.Member!.Status.CommittedIndex),
            "all have applied everything");
    }

    /// <summary>Everybody holds the same.</summary>
    public void AssertSame(string because = "")
    {
        Settle();
        HashKvResult? first = null;
        foreach (Node node in Nodes)
        {
            if (node.Member is not { } member)
            {
                continue;
            }

            Assert.Equal(ErrorCode.None, member.Store.HashKv(0, out HashKvResult hash));
            first ??= hash;
            Assert.True(
                first.Value.Hash == hash.Hash && first.Value.CurrentRevision == hash.CurrentRevision,
                $"{node.Options.Name} differs: {hash} instead of {first} {because}\n{Describe()}");
        }
    }

    public string Describe()
    {
        var text = new System.Text.StringBuilder();
        foreach (Node node in Nodes)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"{node.Options.Name}: {node.Member?.Id:x} {node.Member?.Status}");
            lock (node.Log.Lines)
            {
                foreach (string line in node.Log.Lines.GetRange(Math.Max(0, node.Log.Lines.Count - 15), Math.Min(15, node.Log.Lines.Count)))
                {
                    text.AppendLine("    " + line);
                }
            }
        }

        return text.ToString();
    }

    public void Dispose()
    {
        foreach (Node node in Nodes)
        {
            node.Kill();
        }

        foreach (TempDir directory in _directories)
        {
            directory.Dispose();
        }
    }

    private ulong NextSeed() => _seed = (_seed * 6364136223846793005) + 1442695040888963407;

    internal sealed class Node(PolledCluster cluster, int number, MemberOptions options)
    {
        public Member? Member { get; private set; }

        public MemberOptions Options { get; set; } = options;

        public TestLog Log { get; } = new();

        public TestFatal Fatal { get; } = new();

        /// <summary>An actor that is not polled: its thread, or the disk under it, stands still.</summary>
        public string? Stalled { get; set; }

        public int Number => number;

        public void Start()
        {
            Member = Member.Open(Options, new MemberEnvironment
            {
                FileSystem = new PosixFileSystem(),
                Clock = cluster.Clock,
                Random = new SystemRandom(cluster.NextSeed()),
                Fatal = Fatal,
                Pool = new NativePool(1 << 20),
                Log = Log,
                Transport = cluster.Network.NewPort(),
            });
        }

        public bool Poll()
        {
            bool worked = false;
            if (Member is { } member)
            {
                foreach (MemberActor actor in member.Actors)
                {
                    if (actor.Actor.RoleName != Stalled)
                    {
                        worked |= actor.Actor.Poll(cluster.Clock.NowNs);
                    }
                }
            }

            return worked;
        }

        /// <summary>Drops everything as a kill would.</summary>
        public void Kill()
        {
            if (Member is { } member)
            {
                Member = null;
                cluster.Network.Kill(member.Id);
                member.Dispose();
            }
        }

        public void Stop()
        {
            Member!.BeginStop();
            cluster.RunReal(() => Member.Stopped.IsCompleted, "stop of " + Options.Name);
            Kill();
        }

        public Write Put(string key, string value) => Propose(RequestKind.Put, Requests.Put(key, value));

        public Write Propose(RequestKind kind, byte[] body)
        {
            RequestSlot slot = Member!.Rent();
            body.CopyTo(slot.BeginRequest(kind, body.Length));
            return new Write(Member, slot, Member.ProposeAsync(slot));
        }

        public ErrorCode PutAndWait(string key, string value)
        {
            Write write = Put(key, value);
            cluster.Run(() => write.IsCompleted, $"put {key} at {Options.Name}");
            return write.End();
        }

        /// <summary>The value by a linearizable read; throws what the read was refused with.</summary>
        public string? Get(string key)
        {
            RequestSlot slot = Member!.Rent();
            ValueTask<ErrorCode> pending = Member.ReadIndexAsync(slot);
            cluster.Run(() => slot.IsCompleted || pending.IsCompleted, $"read at {Options.Name}");
            ErrorCode outcome = Write.Refusal(slot, pending) ?? slot.Outcome;
            Member.Return(slot);
            Assert.Equal(ErrorCode.None, outcome);
            return Read(key);
        }

        /// <summary>What this member holds now.</summary>
        public string? Read(string key)
        {
            var output = new NativeBuffer(new NativePool(1 << 16));
            ViewPin pin = Member!.Store.Pin();
            try
            {
                ErrorCode code = Member.Store.Range(Requests.Range(key), pin, Member.Header, ref output);
                Assert.Equal(ErrorCode.None, code);
                return Requests.FirstValue(output.WrittenSpan);
            }
            finally
            {
                Member.Store.Unpin(pin);
                output.Free();
            }
        }
    }

    /// <summary>A write under way.</summary>
    internal sealed class Write(Member member, RequestSlot slot, ValueTask<ErrorCode> pending)
    {
        private readonly ErrorCode? _refusal = Refusal(slot, pending);

        public bool IsCompleted => _refusal is not null || slot.IsCompleted;

        public ErrorCode Outcome => _refusal ?? slot.Outcome;

        // Refused at the door: nothing was proposed, the slot knows nothing of it.
        internal static ErrorCode? Refusal(RequestSlot slot, ValueTask<ErrorCode> pending)
        {
            if (pending.IsCompleted && !slot.IsCompleted)
            {
                return pending.Result;
            }

            return null;
        }

        public ErrorCode End()
        {
            ErrorCode outcome = Outcome;
            member.Return(slot);
            return outcome;
        }
    }
}
