// ScriptNode: one core under a script: what it wants written, sent and applied is gathered as one "Ready", in the
// synchronous way (written, sent and applied at once) or with an append and an apply thread of its own.
//
// Where we differ from the library the language was made for: a vote request leaves when its term and vote are durable.
// With the threads on, it is shown where the library shows it and delivered when it may leave.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.RaftScript;

internal sealed unsafe class ScriptNode : IPayloadOwner
{
    private readonly bool _isAsync;
    private readonly List<ScriptEntry> _entries = [];
    private readonly List<ScriptMessage> _free = [];
    private readonly List<ScriptMessage> _held = [];
    private readonly Queue<(ulong Sequence, List<ScriptMessage> Responses)> _appends = [];
    private readonly Queue<(ulong Low, ulong High)> _applies = [];
    private (ulong Index, ulong Term, ConfState State)? _snapshot;
    private HardState _shown;
    private ulong _sequence;
    private bool _hasUnit;

    public ScriptNode(RaftConfig config, HardState hardState, ConfState state, ulong index, bool isAsync)
    {
        _isAsync = isAsync;
        _shown = hardState;
        Core = new RaftCore(config, this, hardState, state, index, index == 0 ? 0UL : 1UL, []);
    }

    public RaftCore Core { get; }

    public ulong Id => Core.Id;

    public bool HasAppendWork => _appends.Count > 0;

    public bool HasApplyWork => _applies.Count > 0;

    private bool IsStateNew => Core.Term != _shown.Term || Core.Vote != _shown.Vote || Core.Commit != _shown.Commit;

    private ulong ApplyLimit => Core.PendingSnapshot != 0 ? 0 : _isAsync ? Math.Min(Core.Commit, Core.Durable) : Core.Commit;

    public bool HasReady
    {
        get
        {
            Pull();
            return _hasUnit || _free.Count > 0 || _held.Count > 0 || IsStateNew || ApplyLimit > Core.Applying;
        }
    }

    public void Release(nint owner) => NativeMemory.Free((void*)owner);

    public RaftEntry Own(ScriptEntry entry)
    {
        var own = new RaftEntry { Term = entry.Term, Index = entry.Index, Type = entry.Type, Length = entry.Payload.Length };
        if (own.Length > 0)
        {
            own.Data = (byte*)NativeMemory.Alloc((nuint)own.Length);
            own.Owner = (nint)own.Data;
            entry.Payload.CopyTo(new Span<byte>(own.Data, own.Length));
        }

        return own;
    }

    public ScriptEntry Read(ulong index)
    {
        var copy = new RaftEntry[1];
        Core.CopyEntries(index, copy);
        return new ScriptEntry(copy[0].Term, copy[0].Index, copy[0].Type, copy[0].Payload.ToArray());
    }

    public ProposalResult Propose(EntryType type, byte[] payload, List<ScriptMessage> network)
    {
        RaftEntry own = Own(new ScriptEntry(0, 0, type, payload));
        Span<RaftProposal> batch = [new RaftProposal { Data = own.Data, Length = own.Length, Owner = own.Owner, Type = type }];
        Core.Propose(batch);
        if (batch[0].Result == ProposalResult.Forward)
        {
            network.Add(new ScriptMessage(Core.ForwardHeader(batch[0].Index, 1), [new ScriptEntry(0, 0, type, payload)]));
        }

        if (batch[0].Result is ProposalResult.ConfChangePending or ProposalResult.ConfChangeRefused)
        {
            Core.AppendEmptyInstead();
            return ProposalResult.Appended;
        }

        return batch[0].Result;
    }

    /// <summary>Does what a Ready asks for and says what that was.</summary>
    public void ProcessReady(List<ScriptMessage> network, List<string> output)
    {
        if (!HasReady)
        {
            output.Add("<empty Ready>");
            return;
        }

        output.Add("Ready MustSync=" + (_hasUnit ? "true:" : "false:"));
        if (IsStateNew)
        {
            _shown = new HardState(Core.Term, Core.Vote, Core.Commit);
            output.Add(Describe.HardState(Core.Term, Core.Vote, Core.Commit));
        }

        Show("Entries:", _entries.ConvertAll(Describe.Entry), output);
        if (_snapshot is { } snapshot)
        {
            output.Add("Snapshot " + Describe.Snapshot(snapshot.Index, snapshot.Term, snapshot.State));
        }

        ulong low = Core.Applying + 1, high = ApplyLimit;
        var committed = new List<string>();
        for (ulong i = low; i <= high; i++)
        {
            committed.Add(Describe.Entry(Read(i)));
        }

        Show("CommittedEntries:", committed, output);
        var shown = new List<ScriptMessage>(_free);
        shown.AddRange(_held.FindAll(m => !_isAsync || m.Message.Type == MessageType.Vote));
        Show("Messages:", shown.ConvertAll(Describe.Message), output);

        network.AddRange(_free);
        var held = new List<ScriptMessage>(_held);
        bool hadUnit = _hasUnit;
        ulong sequence = _sequence;
        _entries.Clear();
        _free.Clear();
        _held.Clear();
        _snapshot = null;
        _hasUnit = false;
        if (_isAsync)
        {
            if (hadUnit || held.Count > 0)
            {
                _appends.Enqueue((sequence, held));
            }

            if (high >= low && Core.TryTakeCommitted((int)(high - low + 1), out low, out high))
            {
                _applies.Enqueue((low, high));
            }

            return;
        }

        network.AddRange(held);
        if (high > Core.Durable)
        {
            Written(sequence);
            Apply(low, high, output);
        }
        else
        {
            Apply(low, high, output);
            Written(sequence);
        }
    }

    /// <summary>One piece of append work: it is durable; its own end arrives as a local message.</summary>
    public void ProcessAppend(List<ScriptMessage> network)
    {
        (ulong sequence, List<ScriptMessage> responses) = _appends.Dequeue();
        network.AddRange(responses);
        network.Add(Local(sequence, 0));
    }

    /// <summary>One piece of apply work.</summary>
    public void ProcessApply(List<ScriptMessage> network, List<string> output)
    {
        (ulong low, ulong high) = _applies.Dequeue();
        ApplyChanges(low, high, output);
        network.Add(Local(0, high));
    }

    public void Step(ScriptMessage message)
    {
        RaftMessage m = message.Message;
        if (m.Type == MessageType.None)
        {
            if (m.Context != 0)
            {
                Written(m.Context);
            }
            else
            {
                Reported(m.Index);
            }

            return;
        }

        Core.Step(in m, message.Entries.ConvertAll(Own).ToArray());
    }

    private static void Show(string heading, List<string> lines, List<string> output)
    {
        if (lines.Count > 0)
        {
            output.Add(heading);
            output.AddRange(lines);
        }
    }

    private ScriptMessage Local(ulong sequence, ulong applied) =>
        new(new RaftMessage { Type = MessageType.None, From = Id, To = Id, Context = sequence, Index = applied }, []);

    private void Pull()
    {
        while (Core.TryTakeAppend(out AppendUnit unit))
        {
            _sequence = unit.Sequence;
            _hasUnit = true;
            for (int i = 0; i < unit.EntryCount; i++)
            {
                _entries.Add(Read(unit.FirstIndex + (ulong)i));
            }

            if (unit.SnapshotState is { } state)
            {
                _snapshot = (unit.SnapshotIndex, unit.SnapshotTerm, state);
            }
        }

        while (Core.TryTakeMessage(out RaftMessage message))
        {
            var entries = new List<ScriptEntry>();
            for (int i = 1; i <= message.EntryCount; i++)
            {
                entries.Add(Read(message.Index + (ulong)i));
            }

            (message.ReleaseSequence == 0 && !IsAnswer(message.Type) ? _free : _held).Add(new ScriptMessage(message, entries));
        }
    }

    private static bool IsAnswer(MessageType type) =>
        type is MessageType.AppendResponse or MessageType.VoteResponse or MessageType.PreVoteResponse;

    private void Written(ulong sequence)
    {
        if (sequence != 0)
        {
            Core.WalDurable(sequence);
        }

        if (Core.TryTakeSnapshot(out SnapshotInstall install))
        {
            Core.SnapshotInstalled(install.Index);
        }
    }

    private void Apply(ulong low, ulong high, List<string> output)
    {
        if (high >= low && Core.TryTakeCommitted((int)(high - low + 1), out low, out high))
        {
            ApplyChanges(low, high, output);
            Reported(high);
        }
    }

    private void ApplyChanges(ulong low, ulong high, List<string> output)
    {
        for (ulong i = low; i <= high; i++)
        {
            ScriptEntry entry = Read(i);
            if (entry.Type != EntryType.Normal)
            {
                _ = Core.ApplyConfChange(entry.Type, entry.Payload);
                output.Add($"INFO {Id} switched to configuration {Describe.Configuration(Core.Configuration)}");
            }
        }
    }

    private void Reported(ulong index)
    {
        Core.ReportApplied(index);
        Core.SnapshotTaken(index, Core.Configuration.ToConfState());
    }
}
