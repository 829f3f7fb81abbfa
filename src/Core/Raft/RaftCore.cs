// RaftCore: consensus as a pure state machine: inputs are method calls, effects are taken by the caller.
//
// Thread     raft: every member of this class. No clock, no I/O, no randomness, no locks; nothing managed is allocated
//            in steady state.
// The seam   (what the RaftActor around it does, in one Poll, in this order)
//            1. inputs    WalDurable(sequence) · ApplyConfChange(step) then ReportApplied(index) as the store reports them ·
//                         Propose(batch), control ring first · ReadIndex(context) once for all reads of the batch ·
//                         Tick(nowNs)
//            2. effects   while (the WAL ring has room && TryTakeAppend(out unit)): CopyEntries(unit.FirstIndex, …)
//                         into the WAL's own array, hand it over with unit.Sequence, HardState and MustSync as they are
//                         while (the store ring has room && TryTakeCommitted(room, out lo, out hi)): CopyEntries
//                         while (TryTakeRead(out read)) complete it · while (TryTakeRoleChange(out change)) publish it
//            3. publish   Commit, Term, Leader and IsReadReady for other threads with release-stores, and Commit
//                         BEFORE the entries up to it are visible to the store: then any thread may serve a
//                         linearizable read of a sole voter by reading Commit and waiting for applied >= it.
//            4. sleep     until NextDeadlineNs or a wake.
//            Payloads     An appended proposal's payload belongs to the log; IPayloadOwner.Release is called (on this
//                         thread) when it is applied, durable and no longer kept for laggards. WAL and store may read
//                         the pointers in copied entries until they have reported sequence and index.
//            Conf changes A committed entry of type ConfChange goes to the store like any other; the store decides
//                         whether it is valid (else node 0) and reports the step BEFORE ReportApplied of its index.
//            Restart      The constructor takes snapshot point, ConfState at that point, hard state and all entries
//                         after it. Entries from the snapshot on are handed out again, applied or not: the store skips
//                         those at or below consistent_index but still reports conf changes and applied indexes.
//            First start  RaftCore with nothing, then Bootstrap(entries).
// Order      A term or vote is in a unit before anything that rests on it: a candidate counts itself when the unit with
//            its vote is durable, becomes leader then, and only then appends. Entries count for commit when durable.
//            A unit with a configuration change is preceded by the hard state with the commit index that covers all
//            earlier changes (raft.md §1.9, obligation 3).
// Peers      Step(message, entries) is one more input, delivered before Tick. TryTakeMessage is one more effect, taken
//            after TryTakeAppend has nothing more: a message with a ReleaseSequence leaves when that unit is durable (the
//            WAL thread may release it), any other at once, and an append's entries are copied when it is taken.
//            TryTakeFetch asks for entries that only WAL files hold (Fetched answers), TryTakeSnapshot for a switch of
//            the store (SnapshotInstalled answers). Losing any message is allowed at any point.
// Files      this one: life, inputs of the own member, invariants · Roles: elections · Step: the term gate and what every
//            role answers · Leader: sending and acknowledgements · Membership: configurations, snapshots · Succession: no change leaves the
//            cluster without anybody who can lead · Reads ·
//            Storage: WAL units, durability, commit, apply.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Raft;

/// <summary>One member's consensus; see the file header for how it is driven.</summary>
public sealed partial class RaftCore : IDisposable
{
    private readonly RaftConfig _config;
    private readonly RaftLog _log;
    private readonly ReadQueue _reads = new();
    private readonly IPayloadOwner _payloads;
    private readonly IRandom? _random;

    private Configuration _configuration;
    private Progress[] _progress = [];
    private ulong _pendingConfIndex; // no change of configuration above this index is in the log unapplied
    private int _electionElapsed;
    private int _heartbeatElapsed;
    private int _randomizedTimeout;
    private bool _firstTickSeen;
    private long _lastTickNs;
    private RoleChange _reportedRole;

    /// <summary>Starts from recovered state. All entries given must be durable already.</summary>
    /// <param name="config">Settings.</param>
    /// <param name="payloads">Frees payloads.</param>
    /// <param name="hardState">Last hard state of the WAL; default for an empty log.</param>
    /// <param name="confState">Configuration at the snapshot.</param>
    /// <param name="snapshotIndex">Where the log starts: the last index contained in the snapshot; 0 for none.</param>
    /// <param name="snapshotTerm">Its term.</param>
    /// <param name="entries">Everything after the snapshot; the payloads now belong to the log.</param>
    /// <param name="random">Draws election timeouts; without it they are a fixed function of the id.</param>
    /// <exception cref="RaftStateException">The parts do not fit together.</exception>
    public RaftCore(
        RaftConfig config, IPayloadOwner payloads, HardState hardState, ConfState confState, ulong snapshotIndex,
        ulong snapshotTerm, ReadOnlySpan<RaftEntry> entries, IRandom? random = null)
    {
        if (config.Id == 0)
        {
            throw new RaftStateException("raft: member id 0 cannot take part");
        }

        _config = config;
        _payloads = payloads;
        _random = random;
        _configuration = Configuration.FromConfState(confState, out string problem)
            ?? throw new RaftStateException($"raft: configuration of the snapshot at index {snapshotIndex}: {problem}");
        ulong expected = snapshotIndex + 1;
        ulong term = snapshotTerm;
        foreach (ref readonly RaftEntry entry in entries)
        {
            if (entry.Index != expected || entry.Term < term)
            {
                throw new RaftStateException(
                    $"raft: log entry with index {entry.Index} term {entry.Term} found where index {expected} "
                    + $"and a term of at least {term} belong");
            }

            expected++;
            term = entry.Term;
        }

        if (hardState.Commit > expected - 1)
        {
            throw new RaftStateException(
                $"raft: commit index {hardState.Commit} is above the last log index {expected - 1}: entries are missing");
        }

        _log = new RaftLog(payloads, snapshotIndex, snapshotTerm);
        foreach (ref readonly RaftEntry entry in entries)
        {
            _log.Append(in entry);
        }

        Term = config.AllowsTermBehindLog ? hardState.Term : Math.Max(hardState.Term, term);
        Vote = hardState.Term == Term && !Mutations.Is(Mutation.VoteForgottenOnRestart) ? hardState.Vote : 0;
        Commit = Math.Max(hardState.Commit, snapshotIndex);
        Applied = snapshotIndex;
        Applying = snapshotIndex;
        Durable = _log.LastIndex;
        _sentIndex = _log.LastIndex;
        _written = hardState;
        _durableState = hardState;
        _stateVersion += IsTermOrVoteUnwritten ? 1u : 0;
        _snapshotIndex = snapshotIndex;
        _snapshotTerm = snapshotTerm;
        _snapshotState = confState;
        RebuildProgress();
        DrawTimeout();
        CheckInvariants();
    }

    /// <summary>This member.</summary>
    public ulong Id => _config.Id;

    public RaftRole Role { get; private set; }

    public ulong Term { get; private set; }

    /// <summary>Whom this member voted for in this term; 0 for nobody.</summary>
    public ulong Vote { get; private set; }

    /// <summary>Known leader of this term; 0 for none.</summary>
    public ulong Leader { get; private set; }

    /// <summary>Highest committed index.</summary>
    public ulong Commit { get; private set; }

    /// <summary>Highest index that this member committed as a leader, in this life: perhaps nobody else knows.</summary>
    public ulong OwnCommit { get; private set; }

    /// <summary>Highest index handed to apply.</summary>
    public ulong Applying { get; private set; }

    /// <summary>Highest index the store has reported.</summary>
    public ulong Applied { get; private set; }

    /// <summary>Highest index of this member's log that is durable.</summary>
    public ulong Durable { get; private set; }

    public ulong LastIndex => _log.LastIndex;

    public ulong LastTerm => _log.LastTerm;

    /// <summary>Entries up to here are only in a snapshot.</summary>
    public ulong CompactedIndex => _log.CompactedIndex;

    /// <summary>Payload bytes held by the log.</summary>
    public long LogMemoryBytes => _log.MemoryBytes;

    /// <summary>Payload bytes appended by this leader and not applied, both kinds.</summary>
    public long UncommittedBytes { get; private set; }

    /// <summary>Who votes and learns, as of <see cref="Applied"/>.</summary>
    public Configuration Configuration => _configuration;

    /// <summary>
    /// This member leads, is the only voter, and has committed in its own term: a linearizable read needs nothing but
    /// <see cref="Commit"/>.
    /// </summary>
    public bool IsReadReady => Role == RaftRole.Leader && _configuration.IsSoleVoter(Id) && HasCommittedInTerm;

    private bool HasCommittedInTerm =>
        _log.TryGetTerm(Commit, out ulong term) == LogAnswer.Ready && term == Term;

    /// <summary>When to call <see cref="Tick"/> next, monotonic ns.</summary>
    public long NextDeadlineNs
    {
        get
        {
            if (!_firstTickSeen)
            {
                return 0;
            }

            if (Role == RaftRole.Leader && _configuration.IsAlone(Id))
            {
                return IsCommitUnwritten ? _lastUnitNs + _config.CommitFlushNs : long.MaxValue;
            }

            return _lastTickNs + _config.TickNs;
        }
    }

    /// <summary>
    /// Writes the identical first entries of every member of a new cluster: one ConfChangeAddNode a member, ids
    /// ascending, term 1, index 1 to n, committed. On an empty core, once, before anything else.
    /// </summary>
    /// <param name="entries">Type ConfChange; index and term are set here. The payloads now belong to the log.</param>
    public void Bootstrap(ReadOnlySpan<RaftEntry> entries)
    {
        Invariant.Check(LastIndex == 0 && Term == 0 && Commit == 0, "only an empty log is bootstrapped");
        Invariant.Check(entries.Length > 0, "a cluster has members");
        BecomeFollower(1, 0);
        foreach (ref readonly RaftEntry given in entries)
        {
            RaftEntry entry = given;
            entry.Index = LastIndex + 1;
            entry.Term = 1;
            Invariant.Check(entry.Type == EntryType.ConfChange, "bootstrap entries are configuration changes");
            _log.Append(in entry);
        }

        Commit = LastIndex; // by agreement beforehand, not by a vote
        CheckInvariants();
    }

    /// <summary>
    /// At a start, by an operator's order: appends changes of configuration and calls everything in the log committed,
    /// whatever the other members think. What they know beyond this log is lost.
    /// </summary>
    /// <param name="entries">Type ConfChange; index and term are set here. The payloads now belong to the log.</param>
    public void Force(ReadOnlySpan<RaftEntry> entries)
    {
        Invariant.Check(!_firstTickSeen && _sequence == 0, "a cluster is forced before anything happens");
        foreach (ref readonly RaftEntry given in entries)
        {
            RaftEntry entry = given;
            entry.Index = LastIndex + 1;
            entry.Term = Math.Max(Term, 1);
            _log.Append(in entry);
        }

        Term = Math.Max(Term, LastTerm);
        Commit = LastIndex;
        CheckInvariants();
    }

    /// <summary>Time has passed. Deliver other inputs first: evidence that is waiting must not be outrun by ticks.</summary>
    public void Tick(long nowNs)
    {
        if (!_firstTickSeen)
        {
            _firstTickSeen = true;
            _lastTickNs = nowNs;
            _lastUnitNs = nowNs;
            return;
        }

        _nowNs = nowNs;
        long passed = (nowNs - _lastTickNs) / _config.TickNs;
        if (passed > 0)
        {
            // After a long pause less than one base timeout is made up: what happened meanwhile is not known yet.
            int ticks = (int)Math.Min(passed, Math.Max(1, _config.ElectionTicks - 1));
            _lastTickNs += passed * _config.TickNs;
            if (Role == RaftRole.Leader && _configuration.IsAlone(Id))
            {
                // Nobody to tell and nobody to hear.
            }
            else if (Role != RaftRole.Leader && _configuration.IsSoleVoter(Id))
            {
                Campaign(isTransfer: false); // nobody else could be the leader: no reason to wait
            }
            else
            {
                for (; ticks > 0; ticks--)
                {
                    TickOnce();
                }
            }
        }

        if (IsCommitUnwritten && nowNs - _lastUnitNs >= _config.CommitFlushNs)
        {
            _flushCommit = true;
        }

        CheckInvariants();
    }

    /// <summary>Asks to append a batch. Every element gets its result; see <see cref="ProposalResult"/>.</summary>
    public void Propose(Span<RaftProposal> batch)
    {
        ulong last = LastIndex;
        foreach (ref RaftProposal proposal in batch)
        {
            proposal.Result = Admit(in proposal);
            if (proposal.Result == ProposalResult.Forward)
            {
                proposal.Index = ++_forwardSequence;
                proposal.Term = Term;
            }

            if (proposal.Result != ProposalResult.Appended)
            {
                continue;
            }

            AppendOwn(in proposal);
            proposal.Index = LastIndex;
            proposal.Term = Term;
        }

        if (LastIndex != last && _progress.Length > 1)
        {
            Broadcast();
        }

        CheckInvariants();
    }

    /// <summary>The store has applied everything up to an index.</summary>
    public void ReportApplied(ulong index)
    {
        Invariant.Check(index >= Applied, "applied never goes back (R7)");
        Invariant.Check(index <= Applying, "only what was handed out can be applied");
        for (ulong i = Applied + 1; i <= index; i++)
        {
            if (i < _log.FirstInMemory)
            {
                continue; // a snapshot took the place of the log meanwhile
            }

            ref readonly RaftEntry entry = ref _log.At(i);
            _applyingBytes -= entry.Length;
            if (entry.Length > 0)
            {
                Settle(in entry);
            }
        }

        Applied = index;
        TrimLog();
        LeaveJointIfDue();
        CheckInvariants();
    }

    /// <summary>A snapshot that is durable now stands for everything up to an index (at most <see cref="Applied"/>).</summary>
    public void Compact(ulong index)
    {
        Invariant.Check(index <= Applied, "only applied entries are compacted");
        Invariant.Check(index <= Durable, "only durable entries are compacted");
        _log.Compact(index);
        CheckInvariants();
    }

    internal ulong TermOfCompacted => _log.CompactedTerm;

    /// <summary>Lowest index whose entry is in memory; LastIndex + 1 when none is.</summary>
    public ulong FirstInMemory => _log.FirstInMemory;

    /// <summary>How often a suffix of the log, or all of it, was replaced.</summary>
    public ulong TruncationEpoch => _log.TruncationEpoch;

    /// <summary>
    /// At a start, before any input: entries at or below the snapshot point are still in WAL files from an index on, so
    /// that a peer that lags need not be sent a snapshot. See <see cref="RaftLog.ExtendDown"/>.
    /// </summary>
    internal void ExtendLog(ulong compactedIndex, ulong compactedTerm, ReadOnlySpan<(ulong FirstIndex, ulong Term)> terms)
    {
        Invariant.Check(!_firstTickSeen && _sequence == 0, "the log is extended before anything happens");
        _log.ExtendDown(compactedIndex, compactedTerm, terms);
        CheckInvariants();
    }

    /// <summary>
    /// This leader can no longer do its part (its disk stands still): it follows nobody until somebody else leads. A new
    /// candidacy of its own needs a durable vote first, so it cannot lead again before the disk moves.
    /// </summary>
    public void StepDown()
    {
        if (Role == RaftRole.Leader)
        {
            BecomeFollower(Term, 0);
            CheckInvariants();
        }
    }

    /// <summary>Where an entry is to be found.</summary>
    public LogAnswer Locate(ulong index) => _log.Locate(index);

    /// <summary>The term at an index; never Pending.</summary>
    public LogAnswer TryGetTerm(ulong index, out ulong term) => _log.TryGetTerm(index, out term);

    /// <summary>Copies consecutive entries, all in memory, from an index on.</summary>
    public void CopyEntries(ulong firstIndex, Span<RaftEntry> destination) =>
        _log.CopyTo(firstIndex, destination);

    /// <summary>Takes a change of role, term or leader since the last call.</summary>
    public bool TryTakeRoleChange(out RoleChange change)
    {
        change = new RoleChange(Role, Term, Leader);
        if (change == _reportedRole)
        {
            return false;
        }

        _reportedRole = change;
        return true;
    }

    /// <summary>Releases every payload. WAL and store must be done with them.</summary>
    public void Dispose() => _log.Dispose();

    private unsafe ProposalResult Admit(in RaftProposal proposal)
    {
        if (Role != RaftRole.Leader)
        {
            return Role == RaftRole.Follower && Leader != 0 && _config.ForwardProposals
                ? ProposalResult.Forward
                : ProposalResult.NotLeader;
        }

        if (!_configuration.Contains(Id))
        {
            return ProposalResult.NotLeader;
        }

        if (_transferee != 0 || IsOutvoted)
        {
            return ProposalResult.Transferring;
        }

        if (proposal.Type != EntryType.Normal)
        {
            ProposalResult judged = JudgeConfChange(
                proposal.Type, new ReadOnlySpan<byte>(proposal.Data, proposal.Length));
            if (judged != ProposalResult.Appended)
            {
                return judged;
            }
        }
        else
        {
            Invariant.Check(proposal.Length > 0, "only the leader itself makes empty entries");
        }

        // One oversized proposal into an empty tail passes, or it never could.
        long outstanding = UncommittedBytes;
        long limit = _config.MaxUncommittedBytes
            + (proposal.Kind == ProposalKind.Control ? _config.ControlReserveBytes : 0);
        return outstanding > 0 && proposal.Length > 0 && outstanding + proposal.Length > limit
            ? ProposalResult.TooMuchUncommitted
            : ProposalResult.Appended;
    }

    private unsafe void AppendOwn(in RaftProposal proposal)
    {
        var entry = new RaftEntry
        {
            Term = Term,
            Index = LastIndex + 1,
            Data = proposal.Data,
            Length = proposal.Length,
            Type = proposal.Type,
            Owner = proposal.Owner,
        };
        _log.Append(in entry);
        UncommittedBytes += proposal.Length;
        if (proposal.Type != EntryType.Normal)
        {
            _pendingConfIndex = entry.Index;
        }
    }

    /// <summary>An applied entry no longer counts as uncommitted; entries of earlier leaders never did.</summary>
    private void Settle(in RaftEntry entry) => UncommittedBytes = Math.Max(0, UncommittedBytes - entry.Length);

    private void TrimLog()
    {
        bool alone = _configuration.IsAlone(Id);
        long bytes = alone ? _config.RetainBytes / 64 : _config.RetainBytes;
        int entries = alone ? _config.RetainEntries / 64 : _config.RetainEntries;
        _log.Trim(Math.Min(Applied, Durable), bytes, (ulong)entries);
    }

    private Progress? Find(ulong id)
    {
        foreach (Progress progress in _progress)
        {
            if (progress.Id == id)
            {
                return progress;
            }
        }

        return null;
    }

    /// <summary>The inequalities that hold between any two inputs (R7); cheap enough to stay on.</summary>
    private void CheckInvariants()
    {
        Invariant.Check(Applied <= Applying, "applied <= applying");
        Invariant.Check(Applying <= Commit, "applying <= commit");
        Invariant.Check(Commit <= LastIndex, "commit <= last index");
        Invariant.Check(Durable <= _sentIndex, "durable <= written");
        Invariant.Check(_sentIndex <= LastIndex, "written <= last index");
        Invariant.Check(
            Applying <= Durable || Mutations.Is(Mutation.ApplyBeforeSync), "nothing is applied before it is durable here");
        Invariant.Check(Term >= LastTerm || _config.AllowsTermBehindLog, "no entry is of a later term than ours");
        Invariant.Check(
            _log.CompactedIndex <= Math.Max(Applied, _pendingSnapshot), "only applied entries are compacted");
    }
}
