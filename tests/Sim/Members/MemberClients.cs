// MemberClients: clients that do one thing at a time at some member, and the witness check of every answer.
//
// Witness   The ledger knows at which index each write took effect, and what the model answered there; a read was served at a
//           revision. The history is strictly serializable if every answer is the model's and nothing rests on an index or
//           revision below one that was answered before it began (C1, C3, R14). The search (LinearSearch) judges some of the
//           same histories without the ledger's help.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Threading.Tasks;
using Cairn.Core.Protocol;
using Cairn.Core.Server;

namespace Cairn.Simulation;

internal sealed class MemberClients
{
    private readonly MembersWorld _world;
    private readonly SimRandom _random;
    private readonly List<Operation> _open = [];
    private readonly Client[] _clients;
    private int _asked;
    private int _values;
    private ulong _answeredIndex; // highest of any write that was answered
    private long _answeredRevision; // highest in any answer of a linearizable operation

    public MemberClients(MembersWorld world, SimRandom random)
    {
        _world = world;
        _random = random;
        _clients = new Client[world.Config.Clients];
        for (int i = 0; i < _clients.Length; i++)
        {
            _clients[i] = new Client(i);
        }
    }

    private sealed class Client(int number)
    {
        public int Number => number;

        public Operation? Asking;
    }

    /// <summary>One request on its way. The continuation runs where the request completes and only notes that.</summary>
    private sealed class Operation : IRunsInPlace
    {
        public required Client Client;
        public required MemberNode Node;
        public required Member Member;
        public required RequestSlot Slot;
        public required StoreRequest Request;
        public required ulong Id;
        public bool IsPlain;
        public long AskedNs;
        public ulong IndexBefore;
        public long RevisionBefore;
        public HistoryOperation? History;

        public bool IsDone { get; private set; }

        public void Done() => IsDone = true;
    }

    /// <summary>Operations answered with a result.</summary>
    public long Completed { get; private set; }

    public long Reads { get; private set; }

    public bool IsStopping { get; set; }

    public bool IsQuiet => _open.Count == 0;

    public History? History { get; init; }

    public void Start()
    {
        foreach (Client client in _clients)
        {
            Think(client);
        }
    }

    /// <summary>After each step: takes what was answered, forgets what died with its member.</summary>
    public void Look()
    {
        for (int i = _open.Count - 1; i >= 0; i--)
        {
            Operation operation = _open[i];
            if (operation.Node.Member != operation.Member)
            {
                _open.RemoveAt(i); // it may have happened; nobody will say
                Free(operation);
            }
            else if (operation.IsDone)
            {
                _open.RemoveAt(i);
                Take(operation);
                operation.Member.Return(operation.Slot);
                Free(operation);
            }
        }
    }

    private void Free(Operation operation)
    {
        operation.Client.Asking = null;
        Think(operation.Client);
    }

    private void Think(Client client)
    {
        if (!IsStopping)
        {
            _world.After(1 + _random.Below(_world.Config.ThinkNs * 2), () => Next(client));
        }
    }

    private void Next(Client client)
    {
        if (IsStopping || (_asked >= _world.Config.Operations && !_world.IsHealed))
        {
            return;
        }

        MemberNode node = _world.Nodes[_random.Below(_world.Nodes.Count)];
        if (!node.IsServing)
        {
            Think(client);
            return;
        }

        _asked++;
        StoreRequest request = Draw();
        if (request.Kind == StoreRequestKind.Range && _random.Chance(25))
        {
            ReadSerializable(node, request);
            Think(client);
            return;
        }

        Ask(client, node, request);
    }

    private StoreRequest Draw()
    {
        MemberSwarm config = _world.Config;
        string key = MembersWorld.Key(_random.Below(config.Keys));
        if (_random.Chance(config.LeasePercent))
        {
            return _random.Below(10) switch
            {
                < 4 => _world.Leases.NewGrant(),
                < 5 => _world.Leases.NewRevoke(),
                _ => StoreRequest.Put(key, Value()) with
                {
                    Success = [new StoreOp(StoreOpKind.Put, key, "", Value()) { Lease = _world.Leases.AnyId() }],
                },
            };
        }

        if (_random.Chance(config.CompactPercent))
        {
            long last = _world.Ledger.Model.Revision;
            return StoreRequest.Compact(Math.Max(1, last + 5 - _random.Below(_random.Chance(50) ? 8 : 40)));
        }

        if (_random.Chance(config.ReadPercent))
        {
            bool isRange = _random.Chance(40);
            long revision = _random.Chance(20) ? Math.Max(1, _world.Ledger.Model.Revision + 3 - _random.Below(20)) : 0;
            return isRange
                ? StoreRequest.Range("k", "l", revision, _random.Chance(30) ? 1 + _random.Below(4) : 0)
                : StoreRequest.Get(key, revision);
        }

        return _random.Below(10) switch
        {
            < 4 => StoreRequest.Put(key, Value()),
            < 6 => StoreRequest.Delete(key, _random.Chance(20) ? "l" : ""),
            < 9 => Swap(key),
            _ => Several(),
        };
    }

    /// <summary>Compare and swap, as an apiserver does it; the guess is often the present state.</summary>
    private StoreRequest Swap(string key)
    {
        long modified = _world.Ledger.Model.At(key, _world.Ledger.Model.Revision) is { IsDelete: false } held ? held.Revision : 0;
        return new StoreRequest(StoreRequestKind.Txn)
        {
            Compares = [new StoreCompare(key, CompareField.Modified, CompareSign.Equal, Math.Max(0, modified - _random.Below(2)))],
            Success = [_random.Chance(80) ? new StoreOp(StoreOpKind.Put, key, "", Value()) : new StoreOp(StoreOpKind.Delete, key)],
            Failure = [new StoreOp(StoreOpKind.Range, key)],
        };
    }

    private StoreRequest Several()
    {
        var operations = new List<StoreOp>();
        int first = _random.Below(_world.Config.Keys);
        int count = 1 + _random.Below(Math.Min(4, _world.Config.Keys));
        for (int i = 0; i < count; i++)
        {
            string key = MembersWorld.Key((first + i) % _world.Config.Keys);
            operations.Add(_random.Below(3) switch
            {
                0 => new StoreOp(StoreOpKind.Range, key),
                1 => new StoreOp(StoreOpKind.Delete, key),
                _ => new StoreOp(StoreOpKind.Put, key, "", Value()),
            });
        }

        return new StoreRequest(StoreRequestKind.Txn) { Success = [.. operations] };
    }

    private string Value()
    {
        string unique = (++_values).ToString(CultureInfo.InvariantCulture);
        return unique.PadLeft(1 + _random.Below(_world.Config.ValueBytes), '.');
    }

    private void Ask(Client client, MemberNode node, StoreRequest request)
    {
        Member member = node.Member!;
        RequestSlot slot = member.Rent();
        bool isPlain = request.Kind == StoreRequestKind.Txn && request.Compares.Length == 0 && request.Success.Length == 1
            && request.Success[0].Kind != StoreOpKind.Range && _random.Chance(80);
        var operation = new Operation
        {
            Client = client,
            Node = node,
            Member = member,
            Slot = slot,
            Request = request,
            Id = slot.Id,
            IsPlain = isPlain,
            AskedNs = _world.NowNs,
            IndexBefore = _answeredIndex,
            RevisionBefore = _answeredRevision,
            History = History?.Call(client.Number, request),
        };
#pragma warning disable CA2012 // Looked at once when it is completed; otherwise its continuation is set, once.
        ValueTask<ErrorCode> pending;
        if (request.Kind == StoreRequestKind.Range)
        {
            pending = member.ReadIndexAsync(slot);
        }
        else
        {
            (RequestKind kind, byte[] body) = Wire.Encode(request, isPlain);
            slot.Lane = kind is RequestKind.Compaction or RequestKind.LeaseRevoke ? ProposalLane.Control : ProposalLane.Normal;
            body.CopyTo(slot.BeginRequest(kind, body.Length));
            _world.Ledger.Ask(slot.Id, request);
            operation.History?.Tag = slot.Id;
            pending = member.ProposeAsync(slot);
        }

        client.Asking = operation;
        if (!pending.IsCompleted)
        {
            pending.GetAwaiter().UnsafeOnCompleted(operation.Done);
            _open.Add(operation);
            return;
        }

        // Answered at once: a refusal, or the barrier of an only voter.
        ErrorCode outcome = pending.Result;
#pragma warning restore CA2012
        if (request.Kind == StoreRequestKind.Range && outcome == ErrorCode.None)
        {
            ReadNow(operation);
        }
        else
        {
            _world.Coverage.Hit("refused at once: " + outcome);
            operation.History?.Refuse();
            if (request.Kind != StoreRequestKind.Range)
            {
                _world.Ledger.Refuse(operation.Id);
            }
        }

        member.Return(slot);
        Free(operation);
    }

    private void Take(Operation operation)
    {
        ErrorCode outcome = operation.Slot.Outcome;
        if (operation.Request.Kind == StoreRequestKind.Range)
        {
            if (outcome == ErrorCode.None)
            {
                ReadNow(operation);
            }
            else
            {
                operation.History?.Refuse();
            }

            return;
        }

        StoreError? error = MemberLedger.Error(outcome);
        if (error is null)
        {
            _world.Coverage.Hit("write answered " + outcome);
            return; // open: it may have happened, or will
        }

        SimCheck.That(
            _world.Ledger.Find(operation.Id) is { } done,
            $"R17: {operation.Node.Name} answered {operation.Request} with {outcome}, and it is not in the log");
        (ulong index, StoreResponse expected) = _world.Ledger.Find(operation.Id)!.Value;
        StoreResponse response = error == StoreError.None
            ? Wire.Decode(operation.Request, operation.IsPlain, operation.Slot.Response.WrittenSpan)
            : new StoreResponse { Error = error.Value };
        bool isSame = operation.Request.Kind is StoreRequestKind.Compact
            ? response.Error == expected.Error : response.IsSame(expected);
        SimCheck.That(
            isSame, $"M1: {operation.Node.Name} answered {operation.Request} at index {index} with\n  {response}\nthe model says\n  {expected}");
        SimCheck.That(
            index > operation.IndexBefore,
            $"C1: {operation.Request} took effect at {index}; something answered before it was asked did at {operation.IndexBefore}");
        _answeredIndex = Math.Max(_answeredIndex, index);
        Answered(operation, response);
        if (operation.Request.Kind == StoreRequestKind.LeaseGrant && error == StoreError.None)
        {
            _world.Leases.Granted(operation.Request.Lease, operation.Request.Ttl, operation.AskedNs);
        }
    }

    private void Answered(Operation operation, StoreResponse response)
    {
        if (operation.Request.Kind != StoreRequestKind.Compact && response.Error == StoreError.None)
        {
            SimCheck.That(
                response.Revision >= operation.RevisionBefore,
                $"C3: {operation.Request} was answered at revision {response.Revision}; {operation.RevisionBefore} was answered before it was asked");
            _answeredRevision = Math.Max(_answeredRevision, response.Revision);
        }

        operation.History?.Complete(response);
        Completed++;
    }

    /// <summary>The barrier is passed: the member's newest view may be read.</summary>
    private void ReadNow(Operation operation)
    {
        (ErrorCode outcome, long revision, StoreResponse? response) = operation.Node.Read(operation.Request);
        SimCheck.That(
            revision >= operation.RevisionBefore,
            $"C1: {operation.Node.Name} read at revision {revision}; {operation.RevisionBefore} was answered before");
        Reads++;
        CheckRead(operation.Node, operation.Request, outcome, revision, response);
        if (response is not null)
        {
            Answered(operation, response);
        }
        else
        {
            operation.History?.Complete(new StoreResponse { Error = MemberLedger.Error(outcome)!.Value });
        }
    }

    private void ReadSerializable(MemberNode node, StoreRequest request)
    {
        (ErrorCode outcome, long revision, StoreResponse? response) = node.Read(request);
        CheckRead(node, request, outcome, revision, response);
    }

    /// <summary>C2: content at the revision that was asked for, or of the view.</summary>
    private void CheckRead(MemberNode node, StoreRequest request, ErrorCode outcome, long revision, StoreResponse? response)
    {
        KvModel model = _world.Ledger.Model;
        if (response is null)
        {
            bool isRight = outcome switch
            {
                ErrorCode.Compacted => request.Revision > 0 && request.Revision < model.Compacted,
                ErrorCode.FutureRev => request.Revision > revision,
                _ => false,
            };
            SimCheck.That(isRight, $"C2: {node.Name} answers {request} at revision {revision} with {outcome}; compacted {model.Compacted}");
            return;
        }

        SimCheck.That(response.Revision == revision, $"C2: {node.Name} reads at {revision} and says {response.Revision}");
        StoreOpResult expected = model.ReadAt(request.Read!, request.Limit, request.Revision > 0 ? request.Revision : revision);
        SimCheck.That(
            response.Results[0].IsSame(expected),
            $"C2: {node.Name} answers {request} at revision {revision} with\n  {response.Results[0].Count}: {string.Join(' ', response.Results[0].Pairs)}\nthe model says\n  {expected.Count}: {string.Join(' ', expected.Pairs)}");
    }
}
