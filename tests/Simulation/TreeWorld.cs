// TreeWorld: one tree file on a simulated disk, with a model of every commit that may be the surviving one.
//
// After a crash the file must hold exactly the state of the last commit that was reported durable, or of the one that
// was under way: a commit is there whole or not at all.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Base;
using Cairn.Btree;
using Xunit;

namespace Cairn.Simulation;

internal sealed class TreeWorld : ICrashWorld
{
    private static readonly string[] BucketNames = ["key", "meta", "lease", "auth"];

    private readonly SimRandom _random;
    private readonly List<(TreePin Pin, State Expected)> _pins = [];
    private readonly SimScheduler _scheduler;
    private Tree? _tree;
    private State _durable = new();
    private State _before = new();
    private State? _underWay;
    private long _nextRevision = 1;

    public TreeWorld(SimRandom random)
    {
        _random = random;
        _scheduler = new SimScheduler(random.Fork("schedule"), new SimClock());
        Files = new SimFileSystem(random.Fork("disk"));
        Files.CreateDirectory("/data");
        Files.SyncDirectory("/");
    }

    public SimFileSystem Files { get; set; }

    /// <summary>Opens the file and checks what it holds; nothing if it is open.</summary>
    public void Start()
    {
        if (_tree is not null)
        {
            return;
        }

        Files.Scheduler = _scheduler;
        var options = new TreeOptions { ReserveBytes = 6 << 20, PageSize = 1024 << _random.Below(3) };
        _tree = Tree.Open(Files, "/data/db", options, new SimFatal());
        State found = Read(_tree.CurrentRoot);
        bool isUnderWay = _underWay is not null && found.Equals(_underWay);
        Assert.True(isUnderWay || found.Equals(_durable), "the file holds neither the last durable commit nor the one under way");
        _durable = found;
        _underWay = null;
        ExpectSound();
    }

    /// <summary>
    /// Opens a file with one rotten bit. Falling back to the commit before is right when the bit is in a meta; what
    /// must not happen is a state that never was, unless the open or the first look at a page refuses.
    /// </summary>
    public void StartDamaged()
    {
        Files.Scheduler = _scheduler;
        _tree = Tree.Open(Files, "/data/db", new TreeOptions { ReserveBytes = 6 << 20 }, new SimFatal());
        State found = Read(_tree.CurrentRoot);
        Assert.True(found.Equals(_durable) || found.Equals(_before), "the damaged file holds a state that never was");
    }

    /// <summary>Runs some transactions, each committed in one of the two ways, sometimes under a reader's pin.</summary>
    public void Work(int commits)
    {
        for (int i = 0; i < commits; i++)
        {
            TreeWriter writer = _tree!.BeginWrite();
            State next = _durable.Clone();
            Change(writer, next);
            if (_random.Chance(20))
            {
                writer.ShrinkStep(1 + _random.Below(20));
            }

            if (_random.Chance(5))
            {
                writer.Rollback();
                continue;
            }

            _underWay = next;
            Commit(writer);
            _before = _durable;
            _durable = next;
            _underWay = null;
            Readers();
        }
    }

    public void Drop()
    {
        _pins.Clear();
        try
        {
            _tree?.Dispose();
        }
        catch (PowerLossException)
        {
        }

        _tree = null;
    }

    public void Dispose()
    {
        Files.Cut();
        Drop();
    }

    private void Commit(TreeWriter writer)
    {
        if (_random.Chance(30))
        {
            SimScheduler? scheduler = Files.Scheduler;
            Files.Scheduler = null;
            writer.Commit();
            Files.Scheduler = scheduler;
            return;
        }

        var waker = new CommitActor();
        waker.Self = _scheduler.Add(waker);
        waker.Commit = writer.BeginCommit(waker.Self);
        waker.Commit.Urgent = _random.Chance(30);
        try
        {
            Assert.True(_scheduler.RunUntil(() => waker.Commit.IsCompleted, 60_000_000_000), "a commit stands still");
        }
        finally
        {
            _scheduler.Remove(waker);
        }
    }

    private void Change(TreeWriter writer, State next)
    {
        int operations = 1 + _random.Below(_random.Chance(20) ? 200 : 20);
        for (int i = 0; i < operations; i++)
        {
            string name = BucketNames[_random.Below(BucketNames.Length)];
            if (_random.Chance(1) && next.Buckets.Remove(name))
            {
                Assert.True(writer.DeleteBucket(Encoding.ASCII.GetBytes(name)));
                continue;
            }

            if (!next.Buckets.TryGetValue(name, out SortedDictionary<string, string>? model))
            {
                model = next.Buckets[name] = new SortedDictionary<string, string>(StringComparer.Ordinal);
            }

            TreeBucket bucket = writer.CreateBucketIfMissing(Encoding.ASCII.GetBytes(name));
            bucket.FillPercent = name == "key" ? 0.9 : 0.5;
            string key = name == "key" && _random.Chance(80)
                ? _nextRevision++.ToString("d12")
                : _random.Below(300).ToString("d12");
            if (_random.Chance(35))
            {
                Assert.Equal(model.Remove(key), bucket.Delete(Encoding.ASCII.GetBytes(key)));
            }
            else
            {
                string value = new((char)('a' + _random.Below(26)), _random.Chance(3) ? _random.Below(9000) : _random.Below(80));
                model[key] = value;
                bucket.Put(Encoding.ASCII.GetBytes(key), Encoding.ASCII.GetBytes(value));
            }
        }
    }

    /// <summary>Old roots stay readable as long as they are pinned, whatever is committed meanwhile.</summary>
    private void Readers()
    {
        if (_pins.Count < 4 && _random.Chance(30))
        {
            _pins.Add((_tree!.Pin(), _durable));
        }

        if (_pins.Count > 0 && _random.Chance(30))
        {
            int index = _random.Below(_pins.Count);
            (TreePin pin, State expected) = _pins[index];
            Assert.True(Read(pin.Root).Equals(expected), "a pinned root changed under its reader");
            _tree!.Unpin(pin);
            _pins.RemoveAt(index);
        }

        if (_random.Chance(10))
        {
            ExpectSound();
        }
    }

    private void ExpectSound()
    {
        TreeCheckResult result = _tree!.Check(_tree.CurrentRoot, againstFreelist: true);
        Assert.True(result.IsOk, string.Join('\n', result.Errors));
    }

    private State Read(TreeRoot root)
    {
        var state = new State();
        var reader = new TreeReader(_tree!, root);
        TreeCursor names = reader.Cursor();
        for (bool more = names.First(); more; more = names.Next())
        {
            Assert.True(names.TryGetBucket(out BucketReader bucket));
            var model = new SortedDictionary<string, string>(StringComparer.Ordinal);
            TreeCursor cursor = bucket.Cursor();
            for (bool next = cursor.First(); next; next = cursor.Next())
            {
                model.Add(Encoding.ASCII.GetString(cursor.Key), Encoding.ASCII.GetString(cursor.Value));
            }

            state.Buckets.Add(Encoding.ASCII.GetString(names.Key), model);
        }

        return state;
    }

    private sealed class CommitActor : IActor
    {
        public TreeCommit? Commit { get; set; }

        public IWaker? Self { get; set; }

        public string RoleName => "tree";

        public long NextDeadlineNs => Commit?.NextDeadlineNs ?? long.MaxValue;

        public bool Poll(long nowNs) => Commit is not null && Commit.Poll(nowNs);
    }

    /// <summary>Buckets and their pairs.</summary>
    private sealed class State : IEquatable<State>
    {
        public SortedDictionary<string, SortedDictionary<string, string>> Buckets { get; } = new(StringComparer.Ordinal);

        public State Clone()
        {
            var copy = new State();
            foreach ((string name, SortedDictionary<string, string> bucket) in Buckets)
            {
                copy.Buckets.Add(name, new SortedDictionary<string, string>(bucket, StringComparer.Ordinal));
            }

            return copy;
        }

        public bool Equals(State? other)
        {
            if (other is null || other.Buckets.Count != Buckets.Count)
            {
                return false;
            }

            foreach ((string name, SortedDictionary<string, string> bucket) in Buckets)
            {
                if (!other.Buckets.TryGetValue(name, out SortedDictionary<string, string>? theirs) || theirs.Count != bucket.Count)
                {
                    return false;
                }

                foreach ((string key, string value) in bucket)
                {
                    if (!theirs.TryGetValue(key, out string? their) || their != value)
                    {
                        return false;
                    }
                }
            }

            return true;
        }

        public override bool Equals(object? obj) => Equals(obj as State);

        public override int GetHashCode() => Buckets.Count;
    }
}
