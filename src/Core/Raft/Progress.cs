// Progress: what a leader knows of one member of the configuration, itself included.
//
// States     Probe: the peer's log is being found out, one append at a time. Replicate: appends are sent ahead, Next
//            moves on sending, a window bounds what is in flight. Snapshot: nothing is sent until an answer shows that
//            the peer reconnects to our log, or the transport reports how the snapshot ended.
// Pausing    A paused peer always has something that will wake it: in Probe and with a full window the next heartbeat
//            response, in Snapshot the transport's report or an acknowledgement, while fetching the end of the fetch.
// Invariant  Match < Next.
using System;

namespace Cairn.Core.Raft;

/// <summary>How a leader sends to a peer.</summary>
public enum ProgressState : byte
{
    Probe,
    Replicate,
    Snapshot,
}

/// <summary>A peer as its leader sees it; for status and metrics.</summary>
/// <param name="Id">The member.</param>
/// <param name="State">How it is sent to.</param>
/// <param name="Match">Highest index known to be durable there.</param>
/// <param name="Next">Next index to send.</param>
/// <param name="IsPaused">Nothing is sent until something is heard.</param>
/// <param name="IsRecentActive">Heard from since the last check of the quorum.</param>
/// <param name="IsLearner">Does not vote.</param>
/// <param name="PendingSnapshot">Index of the snapshot on its way, 0 for none.</param>
/// <param name="InFlight">Appends sent and not acknowledged.</param>
/// <param name="IsWindowFull">No further append with entries until one is acknowledged.</param>
public readonly record struct ProgressStatus(
    ulong Id, ProgressState State, ulong Match, ulong Next, bool IsPaused, bool IsRecentActive, bool IsLearner,
    ulong PendingSnapshot, int InFlight, bool IsWindowFull);

/// <summary>Replication state of one member as its leader sees it.</summary>
internal sealed class Progress
{
    public Progress(ulong id, bool isLearner, int maxInFlight, long maxInFlightBytes)
    {
        Id = id;
        IsLearner = isLearner;
        Window = new InFlightWindow(maxInFlight, maxInFlightBytes);
    }

    public ulong Id { get; }

    public bool IsLearner { get; set; }

    public ProgressState State { get; private set; }

    /// <summary>Highest index known to be durable there and equal to ours.</summary>
    public ulong Match { get; set; }

    /// <summary>Next index to send; always above <see cref="Match"/>.</summary>
    public ulong Next { get; set; } = 1;

    /// <summary>Highest commit index sent.</summary>
    public ulong SentCommit { get; private set; }

    /// <summary>Index of the snapshot on its way; 0 for none.</summary>
    public ulong PendingSnapshot { get; private set; }

    /// <summary>Heard from since the last check of the quorum.</summary>
    public bool IsRecentActive { get; set; }

    /// <summary>One append is out and nothing more follows until something is heard.</summary>
    public bool IsFlowPaused { get; set; }

    /// <summary>The next entries are being read back from WAL files.</summary>
    public bool IsFetching { get; set; }

    /// <summary>A fetch has to be asked for.</summary>
    public bool IsFetchWanted { get; set; }

    /// <summary>Highest read counter of this term it has confirmed (see ReadQueue).</summary>
    public ulong ReadEcho { get; set; }

    /// <summary>Its answer in the running election.</summary>
    public Ballot Ballot { get; set; }

    public InFlightWindow Window { get; }

    public bool IsPaused => State == ProgressState.Snapshot || IsFlowPaused || IsFetching;

    public ProgressStatus Status => new(
        Id, State, Match, Next, IsPaused, IsRecentActive, IsLearner, PendingSnapshot, Window.Count, Window.IsFull);

    /// <summary>As at the start of a term.</summary>
    public void Reset(ulong match, ulong next)
    {
        Enter(ProgressState.Probe);
        Match = match;
        Next = next;
        SentCommit = 0;
        ReadEcho = 0;
        Ballot = Ballot.None;
        IsRecentActive = false;
    }

    public void BecomeProbe()
    {
        ulong pending = State == ProgressState.Snapshot ? PendingSnapshot : 0;
        Enter(ProgressState.Probe);
        Next = Math.Max(Match, pending) + 1;
        SentCommit = Math.Min(SentCommit, Next - 1);
    }

    public void BecomeReplicate()
    {
        Enter(ProgressState.Replicate);
        Next = Match + 1;
    }

    public void BecomeSnapshot(ulong index)
    {
        Enter(ProgressState.Snapshot);
        PendingSnapshot = index;
        Next = index + 1;
        SentCommit = index;
    }

    /// <summary>The snapshot did not arrive: probing starts at what was matched before it.</summary>
    public void ForgetSnapshot() => PendingSnapshot = 0;

    /// <summary>An append with so many entries has left.</summary>
    public void Sent(int entries, long bytes, ulong commit)
    {
        if (State == ProgressState.Replicate)
        {
            if (entries > 0)
            {
                Next += (ulong)entries;
                Window.Add(Next - 1, bytes);
            }

            IsFlowPaused = Window.IsFull; // the empty one through a full window is also one a heartbeat
        }
        else if (entries > 0)
        {
            IsFlowPaused = true;
        }

        SentCommit = commit;
    }

    /// <summary>The peer would commit more if it were told, and was not told yet.</summary>
    public bool CanBumpCommit(ulong commit) => commit > SentCommit && SentCommit < Next - 1;

    /// <summary>An acknowledgement up to an index; false when it says nothing new.</summary>
    public bool Acknowledge(ulong index)
    {
        if (index <= Match)
        {
            return false;
        }

        Match = index;
        Next = Math.Max(Next, index + 1);
        IsFlowPaused = false;
        return true;
    }

    /// <summary>A rejection of an append after <paramref name="rejected"/>; false when it is a stale one.</summary>
    public bool StepBack(ulong rejected, ulong hint)
    {
        if (State == ProgressState.Replicate)
        {
            if (rejected <= Match)
            {
                return false;
            }

            Next = Match + 1;
        }
        else
        {
            if (rejected != Next - 1)
            {
                return false;
            }

            Next = Math.Max(Math.Min(rejected, hint + 1), Match + 1);
            IsFlowPaused = false;
        }

        SentCommit = Math.Min(SentCommit, Next - 1);
        return true;
    }

    private void Enter(ProgressState state)
    {
        State = state;
        PendingSnapshot = 0;
        IsFlowPaused = false;
        IsFetching = false;
        IsFetchWanted = false;
        Window.Clear();
    }
}

/// <summary>One voter's answer.</summary>
internal enum Ballot : byte
{
    None,
    Yes,
    No,
}

/// <summary>Appends sent and not acknowledged, bounded by count and (softly) by bytes. A ring that grows on demand.</summary>
internal sealed class InFlightWindow(int maxCount, long maxBytes)
{
    private Frame[] _ring = [];
    private int _head;

    public int Count { get; private set; }

    public long Bytes { get; private set; }

    /// <summary>The one that crosses the byte bound is still sent, or a large one never would be.</summary>
    public bool IsFull => Count >= maxCount || Bytes >= maxBytes;

    public void Add(ulong lastIndex, long bytes)
    {
        if (Count == _ring.Length)
        {
            var larger = new Frame[Math.Max(8, _ring.Length * 2)];
            for (int i = 0; i < Count; i++)
            {
                larger[i] = _ring[(_head + i) & (_ring.Length - 1)];
            }

            _ring = larger;
            _head = 0;
        }

        _ring[(_head + Count++) & (_ring.Length - 1)] = new Frame(lastIndex, bytes);
        Bytes += bytes;
    }

    /// <summary>Everything up to an index arrived.</summary>
    public void Free(ulong index)
    {
        while (Count > 0 && _ring[_head].LastIndex <= index)
        {
            Bytes -= _ring[_head].Bytes;
            _head = (_head + 1) & (_ring.Length - 1);
            Count--;
        }
    }

    public void Clear()
    {
        Count = 0;
        Bytes = 0;
    }

    private readonly record struct Frame(ulong LastIndex, long Bytes);
}
