// RaftCore.Storage: what goes to the WAL, what comes back, what that commits, and what apply gets.
//
// A unit in flight remembers its last index. When a later unit replaces part of it, that index is cut, so that the
// acknowledgement of the older unit can never make replaced entries count as durable (the ABA rule, raft.md §1.12).
using System;
using Cairn.Base;
using Cairn.Core.Protocol;

namespace Cairn.Core.Raft;

public sealed partial class RaftCore
{
    private InFlight[] _inFlight = new InFlight[64];
    private int _inFlightHead;
    private int _inFlightCount;
    private ulong _sequence;
    private ulong _durableSequence;
    private ulong _sentIndex; // highest index put into a unit
    private HardState _written; // the last hard state put into a unit
    private HardState _durableState; // the last one known to be durable
    private bool _flushCommit;
    private long _applyingBytes;
    private long _nowNs;
    private long _lastUnitNs;

    /// <summary>Units handed out and not acknowledged.</summary>
    public int UnitsInFlight => _inFlightCount;

    private bool IsCommitUnwritten => Commit > _written.Commit;

    private bool IsTermOrVoteUnwritten => Term != _written.Term || Vote != _written.Vote;

    /// <summary>Asks for a unit that holds the current commit index even if nothing else changed; for a clean stop.</summary>
    public void FlushCommit() => _flushCommit |= IsCommitUnwritten;

    /// <summary>Takes the next unit for the WAL, in order; false when there is nothing to write.</summary>
    public bool TryTakeAppend(out AppendUnit unit)
    {
        unit = default;
        if (_isSnapshotUnwritten)
        {
            GiveSnapshot(ref unit);
            return true;
        }

        bool hasEntries = _sentIndex < LastIndex;
        if (!hasEntries && !IsTermOrVoteUnwritten && !_flushCommit)
        {
            return false;
        }

        int count = hasEntries ? UnitLength(out bool hasConfChange) : NoEntries(out hasConfChange);
        bool isFirstOfAll = _written is { Term: 0, Vote: 0, Commit: 0 } && Vote == 0;
        bool stateMustPrecede = (IsTermOrVoteUnwritten && !isFirstOfAll)
            || (hasConfChange && Math.Min(Commit, _sentIndex) > _written.Commit
                && !Mutations.Is(Mutation.ChangeWithoutCommitBeforeIt));
        if (count == 0 || stateMustPrecede)
        {
            // The state alone. Its commit index never passes what is written before it.
            unit.HasHardState = true;
            unit.HardState = new HardState(Term, Vote, Math.Max(_written.Commit, Math.Min(Commit, _sentIndex)));
            unit.MustSync = IsTermOrVoteUnwritten;
        }
        else
        {
            unit.FirstIndex = _sentIndex + 1;
            unit.EntryCount = count;
            unit.MustSync = true;
            _sentIndex += (ulong)count;
            ulong commit = Math.Max(_written.Commit, Math.Min(Commit, _sentIndex));
            unit.HardState = new HardState(Term, Vote, commit);
            unit.HasHardState = unit.HardState != _written;
        }

        Number(ref unit);
        _flushCommit &= IsCommitUnwritten;
        Remember(in unit, unit.EntryCount == 0 ? 0 : unit.LastIndex);
        CheckInvariants();
        return true;
    }

    private void Number(ref AppendUnit unit)
    {
        unit.Sequence = ++_sequence;
        unit.Term = Term;
        unit.TruncationEpoch = _log.TruncationEpoch;
        _lastUnitNs = _nowNs;
        if (unit.HasHardState)
        {
            _written = unit.HardState;
        }

        if (!IsTermOrVoteUnwritten)
        {
            _writtenStateVersion = _stateVersion;
        }
    }

    /// <summary>The record of a received snapshot and a hard state that covers it, in one sync.</summary>
    private void GiveSnapshot(ref AppendUnit unit)
    {
        unit.SnapshotIndex = _pendingSnapshot;
        unit.SnapshotTerm = _pendingSnapshotTerm;
        unit.SnapshotState = _pendingSnapshotState;
        unit.HasHardState = true;
        unit.HardState = new HardState(Term, Vote, Math.Max(_written.Commit, _pendingSnapshot));
        unit.MustSync = true;
        Number(ref unit);
        _isSnapshotUnwritten = false;
        _snapshotSequence = unit.Sequence;
        Remember(in unit, unit.SnapshotIndex);
        CheckInvariants();
    }

    /// <summary>All units up to a sequence are durable.</summary>
    public void WalDurable(ulong sequence)
    {
        Invariant.Check(sequence >= _durableSequence, "durability never goes back (R7)");
        Invariant.Check(sequence <= _sequence, "only units handed out can be durable");
        _durableSequence = sequence;
        bool stateMoved = false;
        while (_inFlightCount > 0 && _inFlight[_inFlightHead].Sequence <= sequence)
        {
            ref InFlight unit = ref _inFlight[_inFlightHead];
            if (unit.HasHardState)
            {
                _durableState = unit.HardState;
                stateMoved = true;
            }

            Durable = Math.Max(Durable, unit.LastIndex);
            _inFlightHead = (_inFlightHead + 1) & (_inFlight.Length - 1);
            _inFlightCount--;
        }

        if (Find(Id) is { } own)
        {
            own.Match = Durable;
            own.Next = Math.Max(own.Next, Durable + 1);
        }

        _log.ReleaseRetired(sequence);
        if (stateMoved)
        {
            CountOwnVote();
        }

        if (MaybeCommit() && _progress.Length > 1)
        {
            Broadcast();
        }

        TrimLog();
        CheckInvariants();
    }

    /// <summary>Takes the next committed entries [lo, hi] for apply; false when there are none or apply is behind.</summary>
    /// <param name="maxEntries">Most entries the caller has room for.</param>
    /// <param name="lo">First index.</param>
    /// <param name="hi">Last index.</param>
    public bool TryTakeCommitted(int maxEntries, out ulong lo, out ulong hi)
    {
        lo = Applying + 1;
        hi = Applying;
        ulong limit = _pendingSnapshot == 0 ? Math.Min(Commit, Durable) : 0;
        if (Mutations.Is(Mutation.ApplyBeforeSync) && _pendingSnapshot == 0)
        {
            limit = _configuration.IsSoleVoter(Id) && Role == RaftRole.Leader ? LastIndex : Commit;
            Commit = Math.Max(Commit, limit);
        }

        while (hi < limit && maxEntries > 0 && _applyingBytes < _config.MaxApplyingBytes)
        {
            hi++;
            maxEntries--;
            _applyingBytes += _log.At(hi).Length;
        }

        if (hi == Applying)
        {
            return false;
        }

        Applying = hi;
        CheckInvariants();
        return true;
    }

    /// <summary>Advances commit to what a quorum has made durable, if that is of this leader's own term.</summary>
    private bool MaybeCommit()
    {
        if (Role != RaftRole.Leader)
        {
            return false;
        }

        ulong agreed = Math.Min(AgreedMatch(_configuration.Incoming), AgreedMatch(_configuration.Outgoing));
        if (agreed > Commit && agreed <= LastIndex && _log.TryGetTerm(agreed, out ulong term) == LogAnswer.Ready
            && (term == Term || Mutations.Is(Mutation.CommitOfOlderTermByCounting)))
        {
            Invariant.Check(
                !_configuration.IsSoleVoter(Id) || agreed <= Durable, "a sole voter commits only what is durable");
            bool isFirst = !HasCommittedInTerm;
            Commit = agreed;
            OwnCommit = agreed;
            if (isFirst)
            {
                AcceptParkedReads();
            }

            return true;
        }

        return false;
    }

    private ulong AgreedMatch(ulong[] half)
    {
        Span<ulong> matches = stackalloc ulong[Math.Min(half.Length, 64)];
        Invariant.Check(half.Length <= matches.Length, "a configuration has at most 64 voters a half");
        int i = 0;
        foreach (ulong id in half)
        {
            matches[i++] = id == Id && Mutations.Is(Mutation.LeaderCountsItselfBeforeSync) ? LastIndex : Find(id)?.Match ?? 0;
        }

        return Quorum.Majority(matches);
    }

    private int UnitLength(out bool hasConfChange)
    {
        hasConfChange = false;
        int count = 0;
        long bytes = 0;
        for (ulong i = _sentIndex + 1; i <= LastIndex && count < _config.MaxUnitEntries; i++)
        {
            ref readonly RaftEntry entry = ref _log.At(i);
            if (count > 0 && bytes + entry.Length > _config.MaxUnitBytes)
            {
                break;
            }

            if (entry.Type != EntryType.Normal && hasConfChange && _written != default)
            {
                break; // the commit index that covers the first has to be on disk before the second; bootstrap is one piece
            }

            bytes += entry.Length;
            count++;
            hasConfChange |= entry.Type != EntryType.Normal;
        }

        return count;
    }

    private static int NoEntries(out bool hasConfChange)
    {
        hasConfChange = false;
        return 0;
    }

    private void Remember(in AppendUnit unit, ulong lastIndex)
    {
        if (_inFlightCount == _inFlight.Length)
        {
            var larger = new InFlight[_inFlight.Length * 2];
            for (int i = 0; i < _inFlightCount; i++)
            {
                larger[i] = _inFlight[(_inFlightHead + i) & (_inFlight.Length - 1)];
            }

            _inFlight = larger;
            _inFlightHead = 0;
        }

        _inFlight[(_inFlightHead + _inFlightCount++) & (_inFlight.Length - 1)] = new InFlight
        {
            Sequence = unit.Sequence,
            LastIndex = lastIndex,
            HasHardState = unit.HasHardState,
            HardState = unit.HardState,
        };
    }

    /// <summary>Replaces the log from an index on: for followers whose leader differs. A leader never does (R3).</summary>
    internal void TruncateFrom(ulong index)
    {
        Invariant.Check(Role != RaftRole.Leader, "a leader never rewrites its log (R3)");
        _log.TruncateFrom(index, Commit, _sequence);
        ulong last = index - 1;
        for (int i = 0; i < _inFlightCount; i++)
        {
            ref InFlight unit = ref _inFlight[(_inFlightHead + i) & (_inFlight.Length - 1)];
            unit.LastIndex = Mutations.Is(Mutation.WalAcknowledgementAfterTruncation)
                ? unit.LastIndex : Math.Min(unit.LastIndex, last);
        }

        Durable = Math.Min(Durable, last);
        _sentIndex = Math.Min(_sentIndex, last);
        CheckInvariants();
    }

    private struct InFlight
    {
        public ulong Sequence;
        public ulong LastIndex; // 0: no entries, or all of them replaced since
        public bool HasHardState;
        public HardState HardState;
    }
}
