// RaftDisk: the log of one member at core level: units in order, what is durable, and what a crash leaves.
//
// The real log (tests/Simulation/WalWorld) proves that a crash leaves a prefix of the records given that covers all that
// was acknowledged. So here a crash keeps a drawn prefix, which may end inside a unit.
using System;
using System.Collections.Generic;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Simulation;

/// <summary>One unit on its way to the disk.</summary>
internal sealed class RaftUnit
{
    public AppendUnit Unit;
    public RaftEntry[] Entries = [];
    public RegisterImage? Mark;
    public HardState MarkState;

    /// <summary>Number of the core's unit; 0 for a mark of our own.</summary>
    public ulong CoreSequence;
}

internal sealed class RaftDisk
{
    private readonly List<RaftUnit> _queue = [];
    private readonly ulong _node;
    private readonly Ledger _ledger;
    private int _flushing;

    public RaftDisk(ulong node, Ledger ledger, RegisterImage start, HardState state)
    {
        _node = node;
        _ledger = ledger;
        Mark = start;
        State = state;
        FirstIndex = start.Index + 1;
    }

    /// <summary>Entries from <see cref="FirstIndex"/> on.</summary>
    public List<RaftEntry> Log { get; } = [];

    public ulong FirstIndex { get; private set; }

    public ulong LastIndex => FirstIndex + (ulong)Log.Count - 1;

    public HardState State { get; private set; }

    /// <summary>The snapshot recovery starts from.</summary>
    public RegisterImage Mark { get; private set; }

    /// <summary>Snapshots received or made that are durable, newest last.</summary>
    public List<RegisterImage> Files { get; } = [];

    public bool IsFlushing => _flushing > 0;

    public int QueueLength => _queue.Count;

    /// <summary>The last core unit that is durable.</summary>
    public ulong DurableSequence { get; private set; }

    /// <summary>The term a restart would begin with.</summary>
    public ulong Term => Math.Max(State.Term, Log.Count > 0 ? Log[^1].Term : Mark.Term);

    public void Enqueue(RaftUnit unit) => _queue.Add(unit);

    /// <summary>Starts to write and sync everything queued. False if there is nothing.</summary>
    public bool Flush()
    {
        _flushing = _queue.Count;
        return _flushing > 0;
    }

    /// <summary>What was flushed is durable. Returns the marks among it.</summary>
    public List<RegisterImage>? Finish()
    {
        List<RegisterImage>? marks = null;
        for (int i = 0; i < _flushing; i++)
        {
            RaftUnit unit = _queue[i];
            Write(unit, unit.Entries.Length, true);
            if (unit.CoreSequence != 0)
            {
                DurableSequence = unit.CoreSequence;
            }

            if (unit.Mark is not null && unit.CoreSequence == 0)
            {
                (marks ??= []).Add(unit.Mark);
            }
        }

        _queue.RemoveRange(0, _flushing);
        _flushing = 0;
        return marks;
    }

    /// <summary>Keeps a prefix of what was being written.</summary>
    public void Crash(SimRandom random)
    {
        int reach = _flushing;
        int kept = random.Below(3) switch { 0 => 0, 1 => reach, _ => random.Below(reach + 1) };
        for (int i = 0; i < kept; i++)
        {
            Write(_queue[i], _queue[i].Entries.Length, true);
        }

        if (kept < reach && random.Chance(50) && _queue[kept].Entries.Length > 0)
        {
            Write(_queue[kept], random.Below(_queue[kept].Entries.Length + 1), false);
        }

        _queue.Clear();
        _flushing = 0;
        DurableSequence = 0;
    }

    /// <summary>Nothing was ever written: for a start that has to begin again.</summary>
    public void Wipe()
    {
        SimCheck.That(Mark.Index == 0, "only a first start begins anew");
        Log.Clear();
        FirstIndex = 1;
        State = default;
    }

    /// <summary>Entries up to here are no longer needed by anybody.</summary>
    public void Release(ulong index)
    {
        index = Math.Min(index, Mark.Index);
        if (index >= FirstIndex)
        {
            int count = (int)Math.Min((ulong)Log.Count, index - FirstIndex + 1);
            Log.RemoveRange(0, count);
            FirstIndex += (ulong)count;
        }
    }

    public bool TryGet(ulong index, out RaftEntry entry)
    {
        if (index >= FirstIndex && index <= LastIndex && Log.Count > 0)
        {
            entry = Log[(int)(index - FirstIndex)];
            return true;
        }

        entry = default;
        return false;
    }

    /// <summary>Is this entry safe here, whatever happens now?</summary>
    public bool Holds(ulong index, ulong term) =>
        Mark.Index >= index || (TryGet(index, out RaftEntry entry) && entry.Term == term);

    private void Write(RaftUnit unit, int entries, bool isWhole)
    {
        if (isWhole && unit.Mark is { } mark && mark.Index > Mark.Index)
        {
            bool connects = TryGet(mark.Index, out RaftEntry entry) && entry.Term == mark.Term;
            if (!connects)
            {
                Log.Clear();
                FirstIndex = mark.Index + 1;
            }

            Mark = mark;
        }

        for (int i = 0; i < entries; i++)
        {
            ref RaftEntry entry = ref unit.Entries[i];
            if (entry.Index < FirstIndex)
            {
                continue;
            }

            int at = (int)(entry.Index - FirstIndex);
            SimCheck.That(at <= Log.Count, $"{_node} writes entry {entry.Index} behind {LastIndex}");
            Log.RemoveRange(at, Log.Count - at);
            ulong previous = at > 0 ? Log[at - 1].Term : entry.Index == Mark.Index + 1 ? Mark.Term : 0;
            Log.Add(entry);
            if (previous != 0)
            {
                _ledger.Writes(in entry, previous);
            }
        }

        if (isWhole)
        {
            HardState state = unit.CoreSequence == 0 ? unit.MarkState : unit.Unit.HardState;
            if (unit.CoreSequence == 0 || unit.Unit.HasHardState)
            {
                SimCheck.That(
                    state.Term >= State.Term && state.Commit >= State.Commit,
                    $"R7: the hard state of {_node} goes back from {State} to {state}");
                State = state;
                _ledger.Votes(_node, state);
            }
        }
    }
}
