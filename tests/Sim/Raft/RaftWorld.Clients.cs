// RaftWorld.Clients: clients that do one thing at a time, what they are told, and the witness check of every answer.
//
// Witness    The ledger knows at which index each write took effect and each read was served. So that the history is
//            strictly serializable it is enough that every answer agrees with the model at its index and that no
//            operation rests on an index below one that was answered before it began (a write: strictly above it).
using System;
using Cairn.Core.Protocol;

namespace Cairn.Simulation;

internal sealed unsafe partial class RaftWorld
{
    private readonly SimRandom _clientRandom;
    private Client[] _clients = [];
    private bool _clientsStop;

    /// <summary>Kept for the search check when the configuration says so.</summary>
    public History? History { get; private set; }

    public bool IsWaiting(ClientRequest request) =>
        request.Client < 0 || (_clients[request.Client].IsAsking && _clients[request.Client].Serial == request.Serial);

    /// <summary>The outcome is open from here on.</summary>
    public void Appended(RaftNode node, ClientRequest request)
    {
    }

    /// <summary>A definite no.</summary>
    public void Refused(ClientRequest request)
    {
        if (request.Client < 0)
        {
            return;
        }

        Ledger.Refused(request.Serial);
        ref Client client = ref _clients[request.Client];
        if (client.IsAsking && client.Serial == request.Serial)
        {
            client.Operation?.Refuse();
            Next(request.Client, true);
        }
    }

    public void ReadFailed(ClientRequest request)
    {
        ref Client client = ref _clients[request.Client];
        if (client.IsAsking && client.Serial == request.Serial)
        {
            client.Operation?.Refuse();
            Next(request.Client, true);
        }
    }

    /// <summary>A member has applied an operation; the client that asked there has its answer.</summary>
    public void AppliedOperation(RaftNode node, in RegisterOp op, ulong index, RegisterResult result)
    {
        int number = (int)(op.Id % 64);
        ref Client client = ref _clients[number];
        if (!client.IsAsking || client.Serial != op.Id || client.Node != node.Number || client.Generation != node.Generation)
        {
            return;
        }

        SimCheck.That(
            index > client.Floor,
            $"C1: a write is at index {index}, but index {client.Floor} was answered before it was asked for");
        SimCheck.That(result == Ledger.At(index).Result, $"M1: another answer than the model's at {index}");
        Ledger.Answered(index);
        client.Operation?.Complete(ResponseOf(op.Kind, result));
        Completed++;
        Next(number, false);
    }

    /// <summary>R14, C1: a linearizable read is served from a state that holds everything answered before it.</summary>
    public void ReadServed(RaftNode node, ClientRequest request, ulong index)
    {
        ref Client client = ref _clients[request.Client];
        if (!client.IsAsking || client.Serial != request.Serial)
        {
            return;
        }

        RegisterState state = node.Store;
        SimCheck.That(
            index >= client.Floor,
            $"R14: a read at {node.Id} got index {index}, but index {client.Floor} was answered before it was asked for");
        Ledger.Applied(node.Id, state);
        Ledger.Answered(Math.Max(index, client.Floor));
        ref readonly RegisterCell cell = ref state[client.Key];
        client.Operation?.Complete(StoreResponse.OfRead(state.Revision, Key(client.Key), cell));
        Completed++;
        Next(request.Client, false);
    }

    /// <summary>A crash: nobody will answer any more.</summary>
    public void ForgetWaiters(RaftNode node)
    {
        for (int i = 0; i < _clients.Length; i++)
        {
            if (_clients[i].IsAsking && _clients[i].Node == node.Number)
            {
                Next(i, true);
            }
        }
    }

    /// <summary>What the ledger knows of an operation whose client never heard.</summary>
    private StoreResponse? FindInLedger(HistoryOperation operation)
    {
        if (Ledger.Find(operation.Tag) is not { } index)
        {
            return null;
        }

        ref readonly Ledger.Committed committed = ref Ledger.At(index);
        return ResponseOf(((RegisterOp*)committed.Data)->Kind, committed.Result);
    }

    private static StoreResponse ResponseOf(RegisterKind kind, RegisterResult result)
    {
        bool holds = kind != RegisterKind.CompareAndPut || result.Succeeded;
        return new StoreResponse
        {
            Revision = result.Revision,
            IsSuccess = holds,
            Results = kind == RegisterKind.Delete ? [new StoreOpResult(result.Succeeded ? 1 : 0, [])]
                : holds ? [StoreOpResult.Nothing] : [],
        };
    }

    private static string Key(int number) => "k" + (char)('a' + number);

    private void StartClients()
    {
        _clients = new Client[Config.Clients];
        if (Config.KeepsHistory)
        {
            History = new History();
        }

        for (int i = 0; i < _clients.Length; i++)
        {
            _clients[i].Node = _clientRandom.Below(_nodes.Count);
            Schedule(RaftEvent.Client, _clientRandom.Below(Config.ElectionNs * 3), i, 0, 0);
        }
    }

    /// <summary>Frees a client for its next operation.</summary>
    private void Next(int number, bool elsewhere)
    {
        ref Client client = ref _clients[number];
        client.IsAsking = false;
        client.Operation = null;
        if (elsewhere)
        {
            client.Node = _clientRandom.Below(_nodes.Count);
        }

        long pause = elsewhere ? Config.TickNs + _clientRandom.Below(Config.ElectionNs) : 1 + _clientRandom.Below(Config.ThinkNs);
        Schedule(RaftEvent.Client, NowNs + pause, number, 0, 0);
    }

    private void ClientGivesUp(int number, ulong serial)
    {
        ref Client client = ref _clients[number];
        if (client.IsAsking && client.Serial == serial)
        {
            Coverage.TimedOut++;
            Next(number, true); // the outcome stays open
        }
    }

    private void ClientAsks(int number)
    {
        ref Client client = ref _clients[number];
        if (client.IsAsking || _clientsStop || (!_isHealed && Asked >= Config.Operations))
        {
            return;
        }

        RaftNode node = _nodes[client.Node % _nodes.Count];
        if (!node.IsUp || node.IsRemoved)
        {
            Next(number, true);
            return;
        }

        Asked++;
        ulong serial = (_nextSerial++ * 64) + (ulong)number;
        client.IsAsking = true;
        client.Serial = serial;
        client.Node = node.Number;
        client.Generation = node.Generation;
        client.Floor = Ledger.AnsweredIndex;
        client.Key = _clientRandom.Below(Config.Keys);
        int drawn = _clientRandom.Below(100);
        if (drawn < (_isHealed ? 30 : Config.ReadPercent))
        {
            if (_clientRandom.Chance(Config.SerializablePercent))
            {
                // Any state that everybody went through will do; it never goes back on one member.
                Ledger.Applied(node.Id, node.Store);
                Completed++;
                Next(number, false);
                return;
            }

            client.Operation = History?.Call(number, StoreRequest.Get(Key(client.Key)));
            node.Ask(new ClientRequest(number, serial, true, 0, EntryType.Normal, 0));
        }
        else
        {
            var op = (RegisterOp*)Allocate(sizeof(RegisterOp));
            op->Id = serial;
            op->Key = client.Key;
            op->Value = (long)serial;
            op->Kind = _clientRandom.Below(10) switch
            {
                < 6 => RegisterKind.Put, < 9 => RegisterKind.CompareAndPut, _ => RegisterKind.Delete,
            };
            op->Expected = op->Kind == RegisterKind.CompareAndPut && _clientRandom.Chance(80)
                ? node.Store[client.Key].Modified : 0;
            client.Operation = History?.Call(number, StoreRequest.Of(in *op, Key(client.Key)));
            if (client.Operation is not null)
            {
                client.Operation.Tag = serial;
            }

            int length = sizeof(RegisterOp);
            node.Ask(new ClientRequest(number, serial, false, (nint)op, EntryType.Normal, length));
        }

        Schedule(
            RaftEvent.ClientTimeout, NowNs + (Config.ElectionNs * (2 + _clientRandom.Below(8))), number, 0, (long)serial);
    }

    private struct Client
    {
        public bool IsAsking;
        public ulong Serial;
        public int Node;
        public int Generation;
        public int Key;

        /// <summary>What had been answered to anybody when it asked.</summary>
        public ulong Floor;

        public HistoryOperation? Operation;
    }
}
