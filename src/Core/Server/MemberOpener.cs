// MemberOpener: from a data directory to a member that can be polled (storage.md §9, behaviour.md §1.3-1.4).
//
// Order      1. paths, options        2. tree: lock, structure, consistent_index, versions
//            3. snapshot file, WAL read under its locks
//            4. judge everything: log against tree, every entry that will be applied, leases before keys, auth, alarms,
//               membership from the snapshot on        <- up to here nothing is written, a refusal leaves no trace
//            5. the WAL repairs its tail and starts a new segment; from here on what was read is durable
//            6. raft begins behind consistent_index: entries at or below it are in the tree already
// Identity   comes from the WAL's metadata record; --initial-* count only when there is no WAL.
// Failure    MemberStartException with one line: path, what was expected, what was found, what to do.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Text;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;
using Cairn.Wal;

namespace Cairn.Core.Server;

/// <summary>Opens one data directory. Used once.</summary>
internal sealed unsafe partial class MemberOpener : IDisposable
{
    private readonly MemberOptions _options;
    private readonly MemberEnvironment _environment;
    private readonly IFileSystem _files;
    private readonly DataDirectory _directory;
    private readonly WalOptions _walOptions;
    private readonly List<string> _brokenSnapshots = [];
    private Tree? _tree;
    private MvccStore? _store;
    private StateMachine? _machine;
    private WalMetadata _identity;
    private string _storageVersion = string.Empty;
    private ulong _consistentIndex;
    private ulong _consistentTerm;
    private SnapContents? _snapshot;
    private ulong _startIndex;
    private ulong _startTerm;
    private InitialMembership? _initial;
    private Cluster? _judged; // membership as it will be when the whole log is applied
    private readonly ulong _boot;
    private bool _handedOver;

    private MemberOpener(MemberOptions options, MemberEnvironment environment)
    {
        _options = options;
        _environment = environment;
        _files = environment.FileSystem;
        _boot = NonZeroRandom();
        _directory = new DataDirectory(_files, options.DataDir, options.WalDir);
        _walOptions = new WalOptions
        {
            SegmentBytes = options.WalSegmentBytes,
            MaxSegments = options.MaxWals,
            Warn = line => ServerLog.Warning(environment.Log, line),
        };
    }

    /// <exception cref="MemberStartException">The directory or the options do not allow a start.</exception>
    internal static MemberParts Open(MemberOptions options, MemberEnvironment environment)
    {
        using var opener = new MemberOpener(options, environment);
        try
        {
            return opener.Open();
        }
        catch (Exception e) when (e is TreeLockedException or TreeCorruptException or WalException
            or FileSystemException or InvalidDataException or RaftStateException)
        {
            throw new MemberStartException(e.Message, e);
        }
    }

    private MemberParts Open()
    {
        bool hasWal = WalDirectory.Exists(_files, _directory.Wal);
        bool hasTree = _files.FileExists(_directory.Tree);
        if (!hasWal)
        {
            if (_options.InitialClusterState == InitialClusterState.Existing)
            {
                RequireJoined();
            }
            else
            {
                _initial = InitialMembership.From(_options);
                RequireTransport(_initial.Members.Count);
            }
        }
        else if (!hasTree)
        {
            throw new MemberStartException(
                $"database file {_directory.Tree} of the backend is missing, but {_directory.Wal} holds a log: "
                + "bring the file back, or restore this member from a snapshot");
        }

        _directory.Prepare();
        OpenTree();
        return hasWal ? Restart() : Create();
    }

    // ---- a new cluster ----

    private MemberParts Create()
    {
        if (_consistentIndex != 0)
        {
            throw new MemberStartException(
                $"database file {_directory.Tree} contains entries up to index {_consistentIndex}, but there is no log in "
                + $"{_directory.Wal}: give the right --wal-dir, or move the file away to start a new member");
        }

        _identity = _initial is null
            ? new WalMetadata(_options.Joined!.LocalId, _options.Joined.ClusterId, NonZeroRandom())
            : new WalMetadata(_initial.LocalId, _initial.ClusterId, NonZeroRandom());
        RestoreState(null);
        _directory.RemoveLeftovers();
        WalLog log = WalDirectory.Create(_files, _directory.Wal, _identity.ToBytes(), _walOptions);
        try
        {
            if (_initial is null)
            {
                ServerLog.Joining(
                    _environment.Log, ServerLog.Id(_identity.MemberId), ServerLog.Id(_identity.ClusterId), _options.DataDir);
                return Finish(log, Empty());
            }

            ServerLog.StartingNew(
                _environment.Log, ServerLog.Id(_identity.MemberId), ServerLog.Id(_identity.ClusterId), _options.DataDir);
            return Finish(log, Bootstrapped());
        }
        catch
        {
            log.Dispose();
            throw;
        }
    }

    private RaftCore Bootstrapped()
    {
        RaftCore core = Empty();
        var entries = new RaftEntry[_initial!.Members.Count];
        for (int i = 0; i < entries.Length; i++)
        {
            entries[i] = Owned(InitialMembership.ConfChangeOf(_initial.Members[i]), EntryType.ConfChange);
        }

        core.Bootstrap(entries);
        return core;
    }

    /// <summary>A core that knows nothing: of a new cluster before its first entries, or of a member that joins.</summary>
    private RaftCore Empty(HardState state = default) => new(
        RaftSettings(), new PoolPayloads(_environment.Pool), state, ConfState.Empty, 0, 0, default, _environment.Random);

    // ---- a restart ----

    private MemberParts Restart()
    {
        ChooseSnapshot();
        WalLog log = WalDirectory.OpenForAppend(
            _files,
            _directory.Wal,
            new WalSnapshotMark(_startIndex, _startTerm),
            _walOptions,
            out WalRecovery recovery,
            Judge);
        using (recovery)
        {
            try
            {
                foreach (string line in recovery.Warnings)
                {
                    ServerLog.Warning(_environment.Log, line);
                }

                foreach (string path in _brokenSnapshots)
                {
                    _files.Rename(path, path + ".broken");
                    ServerLog.Warning(_environment.Log, $"renamed broken snapshot file {path} to {path}.broken");
                }

                _directory.RemoveLeftovers();
                RaftCore core = _initial is not null ? Bootstrapped() : Restored(recovery);
                ServerLog.Restarting(
                    _environment.Log,
                    ServerLog.Id(_identity.ClusterId),
                    ServerLog.Id(_identity.MemberId),
                    recovery.HardState.Commit,
                    _consistentIndex,
                    recovery.LastIndex);
                return Finish(log, core);
            }
            catch
            {
                log.Dispose();
                throw;
            }
        }
    }

    /// <summary>The newest snapshot file that a record of the log vouches for; without one the newest record itself.</summary>
    private void ChooseSnapshot()
    {
        List<WalSnapshotMark> marks = WalDirectory.ValidSnapshots(_files, _directory.Wal);
        for (int i = marks.Count - 1; i >= 0 && _snapshot is null; i--)
        {
            string path = Path.Combine(_directory.Snap, SnapFile.Name(marks[i].Term, marks[i].Index));
            if (marks[i].Index == 0 || !_files.FileExists(path))
            {
                continue;
            }

            if (SnapFile.TryLoad(_files, path, out SnapContents? contents, out string fault))
            {
                _snapshot = contents;
                _startIndex = marks[i].Index;
                _startTerm = marks[i].Term;
            }
            else
            {
                ServerLog.Warning(_environment.Log, $"{path}: {fault}");
                _brokenSnapshots.Add(path);
            }
        }

        if (_snapshot is null && marks.Count > 0 && marks[^1].Index <= _consistentIndex)
        {
            // 3.7 does it this way always: the tree holds the members, the record index and term.
            _startIndex = marks[^1].Index;
            _startTerm = marks[^1].Term;
        }

        if (_startIndex > _consistentIndex)
        {
            SwitchToReceived();
        }

        if (_startIndex > _consistentIndex)
        {
            throw new MemberStartException(
                $"database file {_directory.Tree} does not match with snapshot: its consistent index is "
                + $"{_consistentIndex}, the newest snapshot is at index {_startIndex}; "
                + $"restore this member from a snapshot, or bring the database file back that belongs to this log");
        }
    }

    /// <summary>Step 4 of the file header. Throws to refuse; nothing is written yet.</summary>
    private void Judge(WalRecovery recovery)
    {
        if (!WalMetadata.TryParse(recovery.Metadata, out _identity))
        {
            throw new MemberStartException(
                $"{_directory.Wal}: the metadata record does not name a member: found "
                + Convert.ToHexStringLower(recovery.Metadata));
        }

        if (_consistentIndex > recovery.LastIndex)
        {
            throw new MemberStartException(
                $"database file {_directory.Tree} is ahead of its log: its consistent index is {_consistentIndex}, the "
                + $"last entry in {_directory.Wal} is {recovery.LastIndex}; entries were lost or the files do not belong "
                + "together, restore this member from a snapshot");
        }

        RequireSameTerm(recovery);
        if (recovery.LastIndex == 0 && _consistentIndex == 0)
        {
            JudgeEmptyLog();
            return;
        }

        RestoreState(recovery);
        ClusterView view = _judged!.View;
        if (view.IsRemoved(_identity.MemberId))
        {
            throw new MemberStartException(
                $"the member {_identity.MemberId:x} has been permanently removed from the cluster; the data directory "
                + $"{_options.DataDir} must be removed");
        }

        RequireTransport(_options.ForceNewCluster ? 1 : view.Members.Length);
    }

    /// <summary>A crash between the making of the log and its first entries: begin again as the same member.</summary>
    private void JudgeEmptyLog()
    {
        ulong member, cluster;
        if (_options.InitialClusterState == InitialClusterState.Existing)
        {
            // Nothing was ever received: whoever is the leader sends it all, and names the members.
            (member, cluster) = _options.Joined is { } joined
                ? (joined.LocalId, joined.ClusterId)
                : (_identity.MemberId, _identity.ClusterId);
        }
        else
        {
            _initial = InitialMembership.From(_options);
            RequireTransport(_initial.Members.Count);
            (member, cluster) = (_initial.LocalId, _initial.ClusterId);
        }

        if (member != _identity.MemberId || cluster != _identity.ClusterId)
        {
            throw new MemberStartException(
                $"{_directory.Wal} holds no entries and belongs to member {_identity.MemberId:x} of cluster "
                + $"{_identity.ClusterId:x}, the options describe member {member:x} of cluster "
                + $"{cluster:x}: correct the options, or remove the data directory");
        }

        RestoreState(null);
    }

    private void RequireSameTerm(WalRecovery recovery)
    {
        ulong term = _startIndex == _consistentIndex ? _startTerm : TermAt(recovery, _consistentIndex);
        if (_consistentTerm != 0 && term != 0 && term != _consistentTerm)
        {
            throw new MemberStartException(
                $"database file {_directory.Tree} does not match its log: at index {_consistentIndex} it has term "
                + $"{_consistentTerm}, the log in {_directory.Wal} has term {term}");
        }

        _consistentTerm = Math.Max(term, _consistentTerm);
    }

    private static ulong TermAt(WalRecovery recovery, ulong index)
    {
        foreach (ref readonly WalEntry entry in recovery.Entries)
        {
            if (entry.Index == index)
            {
                return entry.Term;
            }
        }

        return 0;
    }

    private RaftCore Restored(WalRecovery recovery)
    {
        WalHardState hard = recovery.HardState;
        var state = new HardState(hard.Term, hard.Vote, hard.Commit);
        if (recovery.LastIndex == 0 && _consistentIndex == 0)
        {
            return Empty(state); // joining: at most a term and a vote are known
        }

        List<RaftEntry> entries = [];
        foreach (ref readonly WalEntry entry in recovery.Entries)
        {
            if (entry.Index > _consistentIndex)
            {
                RaftEntry owned = Owned(entry.Payload, (EntryType)entry.Type);
                owned.Index = entry.Index;
                owned.Term = entry.Term;
                entries.Add(owned);
            }
        }

        var core = new RaftCore(
            RaftSettings(),
            new PoolPayloads(_environment.Pool),
            state,
            StateMachine.ConfStateOf(_machine!.Cluster.View),
            _consistentIndex,
            _consistentTerm,
            System.Runtime.InteropServices.CollectionsMarshal.AsSpan(entries),
            _environment.Random);
        KeepOlder(core, recovery);
        if (_options.ForceNewCluster)
        {
            ForceAlone(core);
        }

        return core;
    }

    // ---- both ----

    /// <summary>Restores everything that lives in the tree, in the order that counts: leases before keys.</summary>
    private void RestoreState(WalRecovery? recovery)
    {
        LoadedState loaded = LoadedState.From(_tree!, _options, _environment);
        _store = loaded.Store;
        Cluster cluster = RestoredCluster();
        if (recovery is not null)
        {
            _judged = RestoredCluster();
            Replay(recovery, cluster, _judged);
        }

        RequireKnownVersion(cluster.View.Version);
        RequireKnownVersion(_judged?.View.Version ?? string.Empty);
        _machine = new StateMachine(
            _store, loaded.Leases, loaded.Alarms, loaded.Auth, cluster, _identity.ClusterId, _identity.MemberId, _options, _environment);
        _machine.ConfigurationChanged(unwritten: true);
    }

    /// <summary>Membership as of the start snapshot, or of the tree when its file names none.</summary>
    private Cluster RestoredCluster()
    {
        var cluster = new Cluster(_identity.MemberId, _identity.ClusterId, _options.MaxLearners);
        bool snapshotHasMembers = _snapshot is not null && cluster.RestoreFromSnapshot(_snapshot.Data).Members.Count > 0;
        cluster.RestoreFromBuckets(_store!, takeMembers: _startIndex > 0 && !snapshotHasMembers);
        return cluster;
    }

    private void RequireKnownVersion(string clusterVersion)
    {
        if (SemanticVersion.TryParse(clusterVersion, out SemanticVersion cluster) && IsNewer(cluster))
        {
            throw new MemberStartException(
                $"invalid downgrade; server version is lower than determined cluster version: current-server-version "
                + $"{_options.ServerVersion}, determined-cluster-version {clusterVersion} in {_directory.Tree}");
        }
    }

    private bool IsNewer(SemanticVersion version)
    {
        bool parsed = SemanticVersion.TryParse(_options.ServerVersion, out SemanticVersion own);
        Invariant.Check(parsed, "the server's own version is MAJOR.MINOR.PATCH");
        return (version.Major, version.Minor).CompareTo((own.Major, own.Minor)) > 0;
    }

    /// <summary>The few keys of bucket meta that decide before anything else is read.</summary>
    private void ReadTreeMeta()
    {
        TreePin pin = _tree!.Pin();
        try
        {
            var reader = new TreeReader(_tree, pin.Root);
            if (!reader.TryGetBucket(BucketNames.Get(BucketId.Meta), out BucketReader meta))
            {
                return;
            }

            if (meta.TryGet("consistent_index"u8, out ReadOnlySpan<byte> index))
            {
                _consistentIndex = ReadNumber(index, "consistent_index");
            }

            if (meta.TryGet("term"u8, out ReadOnlySpan<byte> term))
            {
                _consistentTerm = ReadNumber(term, "term");
            }

            if (meta.TryGet("storageVersion"u8, out ReadOnlySpan<byte> storage))
            {
                _storageVersion = Encoding.ASCII.GetString(storage);
                if (!SemanticVersion.TryParse(_storageVersion, out SemanticVersion version) || IsNewer(version))
                {
                    throw new MemberStartException(
                        $"{_directory.Tree}: storage version \"{_storageVersion}\" is not supported by server version "
                        + $"{_options.ServerVersion}; start a server of that version, or downgrade the directory with its tools");
                }
            }
        }
        finally
        {
            _tree.Unpin(pin);
        }
    }

    private ulong ReadNumber(ReadOnlySpan<byte> value, string name) => value.Length == 8
        ? BinaryPrimitives.ReadUInt64BigEndian(value)
        : throw new MemberStartException(
            $"{_directory.Tree}: bucket meta, key {name}: expected 8 bytes, found {value.Length}");

    private MemberParts Finish(WalLog log, RaftCore core)
    {
        _handedOver = true;
        return new MemberParts
        {
            Directory = _directory,
            Tree = _tree!,
            Log = log,
            Machine = _machine!,
            Core = core,
            Identity = _identity,
            AppliedIndex = _consistentIndex,
            AppliedTerm = _consistentTerm,
            SnapshotIndex = _startIndex,
            Boot = _boot,
            StorageVersion = _storageVersion,
        };
    }

    private RaftEntry Owned(ReadOnlySpan<byte> payload, EntryType type)
    {
        var entry = new RaftEntry { Type = type, Length = payload.Length };
        if (!payload.IsEmpty)
        {
            NativeBlock* block = _environment.Pool.Rent(payload.Length);
            block->Length = payload.Length;
            payload.CopyTo(NativeBlock.Span(block));
            entry.Data = NativeBlock.Data(block);
            entry.Owner = (nint)block;
        }

        return entry;
    }

    private RaftConfig RaftSettings()
    {
        const int TickMs = 10;
        return new RaftConfig
        {
            Id = _identity.MemberId,
            TickNs = TickMs * 1_000_000L,
            ElectionTicks = Math.Max(1, _options.ElectionMs / TickMs),
            HeartbeatTicks = Math.Max(1, _options.HeartbeatMs / TickMs),
            RetainEntries = (int)Math.Min(int.MaxValue, _options.CatchupEntries),
            MaxUnitEntries = WalHandOff.UnitEntriesMax,
            Boot = _boot,
            PreVote = _options.PreVote,
        };
    }

    private ulong NonZeroRandom()
    {
        ulong value = _environment.Random.NextUInt64();
        return value == 0 ? 1 : value;
    }

    /// <summary>Closes what was opened, unless it was handed over.</summary>
    public void Dispose()
    {
        if (_handedOver)
        {
            return;
        }

        _machine?.Dispose();
        _store?.Dispose();
        _tree?.Dispose();
    }
}
