// Ledger: what the whole cluster must agree on, seen from outside: who led, who voted for whom, what stands where, what
// was committed, what it answered. Fed after every event; every rule is named as in raft.md section 3.
using System;
using System.Collections.Generic;
using Cairn.Core.Protocol;
using Cairn.Core.Raft;

namespace Cairn.Simulation;

internal sealed unsafe class Ledger(int keys)
{
    private readonly Dictionary<ulong, (ulong Node, ulong Boot)> _leaders = [];
    private readonly Dictionary<(ulong Node, ulong Term), ulong> _votes = [];
    private readonly Dictionary<(ulong Index, ulong Term), Written> _written = [];
    private readonly Dictionary<ulong, ulong> _operations = [];
    private readonly HashSet<ulong> _refused = [];
    private readonly Dictionary<ulong, string> _configurations = [];
    private readonly RegisterState _model = new(keys);
    private Committed[] _committed = new Committed[256];
    private ulong _first; // index of the first entry of the log; what is below is common to all

    /// <summary>Highest index committed by anybody.</summary>
    public ulong LastIndex { get; private set; }

    /// <summary>Highest index that a completed client operation rests on.</summary>
    public ulong AnsweredIndex { get; private set; }

    public ulong HighestTerm { get; private set; }

    public RegisterState Model => _model;

    /// <summary>The log begins behind this index.</summary>
    public void StartAt(ulong index)
    {
        _first = index + 1;
        LastIndex = index;
        _ = _model.StartAt(index);
    }

    public ref readonly Committed At(ulong index) => ref _committed[index - _first];

    public bool Has(ulong index) => index >= _first && index <= LastIndex;

    /// <summary>R1: a term is led by one incarnation of one member. True if this is the first that is heard of it.</summary>
    public bool Leads(ulong term, ulong node, ulong boot)
    {
        HighestTerm = Math.Max(HighestTerm, term);
        if (_leaders.TryGetValue(term, out (ulong Node, ulong Boot) known))
        {
            SimCheck.That(known == (node, boot), $"R1: term {term} is led by {node} and by {known.Node} (or twice by one)");
            return false;
        }

        _leaders.Add(term, (node, boot));
        return true;
    }

    /// <summary>R2: a vote that became durable.</summary>
    public void Votes(ulong node, HardState state)
    {
        if (state.Vote == 0)
        {
            return;
        }

        if (_votes.TryGetValue((node, state.Term), out ulong vote))
        {
            SimCheck.That(vote == state.Vote, $"R2: {node} voted for {vote} and for {state.Vote} in term {state.Term}");
        }
        else
        {
            _votes.Add((node, state.Term), state.Vote);
        }
    }

    /// <summary>R4: same index and term, same entry and same predecessor. Fed from disks.</summary>
    public void Writes(in RaftEntry entry, ulong previousTerm)
    {
        var written = new Written((nint)entry.Data, entry.Length, entry.Type, previousTerm);
        if (!_written.TryAdd((entry.Index, entry.Term), written))
        {
            SimCheck.That(
                _written[(entry.Index, entry.Term)] == written,
                $"R4: two entries of term {entry.Term} at index {entry.Index}");
        }
    }

    /// <summary>R6: somebody holds this entry to be committed.</summary>
    public void Commits(ulong node, ulong inTerm, in RaftEntry entry)
    {
        if (entry.Index <= LastIndex)
        {
            if (entry.Index >= _first)
            {
                ref readonly Committed known = ref At(entry.Index);
                SimCheck.That(
                    known.Term == entry.Term && known.Data == entry.Data && known.Type == entry.Type,
                    $"R6: {node} commits an entry of term {entry.Term} at {entry.Index}, others one of term {known.Term}");
            }

            return;
        }

        SimCheck.That(entry.Index == LastIndex + 1, $"{node} commits {entry.Index} after {LastIndex}");
        int at = (int)(entry.Index - _first);
        if (at == _committed.Length)
        {
            Array.Resize(ref _committed, at * 2);
        }

        ref Committed added = ref _committed[at];
        added.Term = entry.Term;
        added.CommittedInTerm = inTerm;
        added.Data = entry.Data;
        added.Type = entry.Type;
        LastIndex = entry.Index;
        if (entry.Type == EntryType.Normal && entry.Length > 0)
        {
            ref readonly RegisterOp op = ref *(RegisterOp*)entry.Data;
            SimCheck.That(
                _operations.TryAdd(op.Id, entry.Index),
                $"R19: operation {op.Id} is in the log twice, at {entry.Index} and before");
            SimCheck.That(!_refused.Contains(op.Id), $"R18: operation {op.Id} was refused, yet it is at index {entry.Index}");
            added.Result = _model.Apply(entry.Index, in op);
        }
        else
        {
            _model.Skip(entry.Index);
        }

        added.Hash = _model.Hash;
    }

    /// <summary>M1: a member's state after an index is the model's.</summary>
    public void Applied(ulong node, RegisterState state)
    {
        if (state.Index >= _first)
        {
            SimCheck.That(state.Index <= LastIndex, $"{node} has applied {state.Index}, which nobody committed");
            SimCheck.That(
                At(state.Index).Hash == state.Hash, $"M1/R15: the state of {node} at index {state.Index} is another one");
        }
    }

    /// <summary>R12: the configuration after an index is everybody's.</summary>
    public void Configured(ulong node, ulong index, ConfState state)
    {
        string text = string.Join(',', state.Voters) + "|" + string.Join(',', state.VotersOutgoing) + "|"
            + string.Join(',', state.Learners) + "|" + string.Join(',', state.LearnersNext) + "|" + state.AutoLeave;
        if (!_configurations.TryAdd(index, text))
        {
            SimCheck.That(
                _configurations[index] == text,
                $"R12: after index {index} {node} has the configuration {text}, others {_configurations[index]}");
        }
    }

    /// <summary>Where an operation stands; null if nowhere.</summary>
    public ulong? Find(ulong operation) => _operations.TryGetValue(operation, out ulong index) ? index : null;

    /// <summary>A client has its answer.</summary>
    public void Answered(ulong index) => AnsweredIndex = Math.Max(AnsweredIndex, index);

    /// <summary>R18: a client was told that this was not done and never will be.</summary>
    public void Refused(ulong operation)
    {
        SimCheck.That(
            !_operations.ContainsKey(operation), $"R18: operation {operation} was refused, yet it is in the log");
        _ = _refused.Add(operation);
    }

    internal struct Committed
    {
        public ulong Term;

        /// <summary>Term of the leader that committed it first.</summary>
        public ulong CommittedInTerm;
        public byte* Data;
        public EntryType Type;
        public RegisterResult Result;
        public ulong Hash;
    }

    private readonly record struct Written(nint Data, int Length, EntryType Type, ulong PreviousTerm);
}
