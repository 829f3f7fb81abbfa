// MemberLedger: the one log all members agree on, seen from their store threads: what was applied first at an index is what
// everybody has to apply there, with the model's outcome.
//
// Rules   R6 (another entry at an index), R17 (an answered write stays), R18 (a refused one never appears), R19 (none twice),
//         M1 (outcome and revision are the model's), M2 (revisions), L1 and L5 (who ends leases, and when).
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Server;

namespace Cairn.Simulation;

internal sealed class MemberLedger(MembersWorld world)
{
    private readonly List<Line> _lines = [];
    private readonly Dictionary<ulong, StoreRequest> _asked = [];
    private readonly Dictionary<ulong, (ulong Index, StoreResponse Response)> _done = [];
    private readonly HashSet<ulong> _refused = [];

    private readonly record struct Line(ulong Term, uint Hash, byte Type, long Revision, StoreError Error, bool IsKv);

    public KvModel Model { get; } = new();

    /// <summary>Index of the newest entry anybody has applied.</summary>
    public ulong LastIndex => (ulong)_lines.Count;

    /// <summary>A client is about to ask for this.</summary>
    public void Ask(ulong id, StoreRequest request)
    {
        SimCheck.That(_asked.TryAdd(id, request), $"request id {id:x} was given out twice");
    }

    /// <summary>A definite no: it may never appear.</summary>
    public void Refuse(ulong id)
    {
        _ = _refused.Add(id);
        SimCheck.That(!_done.ContainsKey(id), $"R18: request {id:x} was refused and is in the log");
    }

    /// <summary>Where a request stands in the log and what it has to answer; null while it is not there.</summary>
    public (ulong Index, StoreResponse Response)? Find(ulong id) =>
        _done.TryGetValue(id, out (ulong Index, StoreResponse Response) done) ? done : null;

    /// <summary>The revision of the store behind an index.</summary>
    public long RevisionAt(ulong index) => index == 0 ? 1 : _lines[(int)index - 1].Revision;

    /// <summary>A member has applied an entry.</summary>
    public void Applied(MemberNode node, in CommittedEntry entry, ErrorCode outcome)
    {
        uint hash = Crc32C.Compute(entry.Payload);
        if (entry.Index == LastIndex + 1)
        {
            Extend(in entry, hash);
        }

        SimCheck.That(entry.Index <= LastIndex, $"{node.Name} applies {entry.Index} where {LastIndex} is the last: a gap");
        Line line = _lines[(int)entry.Index - 1];
        SimCheck.That(
            line.Term == entry.Term && line.Hash == hash && line.Type == entry.Type,
            $"R6: {node.Name} applies another entry at {entry.Index} (term {entry.Term}) than was applied there before (term {line.Term})");
        if (line.IsKv)
        {
            SimCheck.That(
                Error(outcome) == line.Error, $"M1: {node.Name} answers {outcome} at {entry.Index}, the model {line.Error}");
        }
    }

    /// <summary>M1, M2: what a member shows behind the entries it has applied.</summary>
    public void CheckRevision(MemberNode node, ulong applied, long revision)
    {
        SimCheck.That(applied <= LastIndex, $"{node.Name} says it has applied {applied}; the log ends at {LastIndex}");
        SimCheck.That(
            revision == RevisionAt(applied),
            $"M2: {node.Name} is at revision {revision} behind index {applied}; the model at {RevisionAt(applied)}");
    }

    public static StoreError? Error(ErrorCode outcome) => outcome switch
    {
        ErrorCode.None => StoreError.None,
        ErrorCode.Compacted => StoreError.Compacted,
        ErrorCode.FutureRev => StoreError.FutureRevision,
        ErrorCode.LeaseNotFound => StoreError.LeaseNotFound,
        ErrorCode.LeaseExists => StoreError.LeaseExists,
        _ => null,
    };

    private void Extend(in CommittedEntry entry, uint hash)
    {
        StoreError error = StoreError.None;
        bool isKv = false;
        world.Note(entry.Index ^ ((ulong)hash << 20));
        if (entry.Type == 0 && entry.Length > 0)
        {
            SimCheck.That(InternalRaftRequest.TryParse(entry.Payload, out InternalRaftRequest request), "an entry decodes");
            if (_asked.TryGetValue(request.Id, out StoreRequest? asked))
            {
                SimCheck.That(!_refused.Contains(request.Id), $"R18: request {request.Id:x} was refused and is in the log");
                StoreResponse response = Model.Apply(asked);
                SimCheck.That(
                    _done.TryAdd(request.Id, (entry.Index, response)),
                    $"R19: request {request.Id:x} is in the log twice: at {entry.Index} again");
                error = response.Error;
                isKv = true;
                world.Committed++;
                if (asked.Kind == StoreRequestKind.LeaseRevoke && error == StoreError.None)
                {
                    world.Leases.Ended(asked.Lease);
                }
            }
            else if (request.Kind == RequestKind.LeaseRevoke)
            {
                long id = Wire.LeaseId(request.Body);
                world.Leases.Expired(id, entry.Index);
                error = Model.Apply(new StoreRequest(StoreRequestKind.LeaseRevoke) { Lease = id }).Error;
                isKv = true;
            }
            else
            {
                SimCheck.That(
                    request.Kind is not (RequestKind.Put or RequestKind.DeleteRange or RequestKind.Txn or RequestKind.Compaction
                        or RequestKind.LeaseGrant),
                    $"a {request.Kind} that nobody asked for stands at {entry.Index}");
            }
        }

        _lines.Add(new Line(entry.Term, hash, entry.Type, Model.Revision, error, isKv));
    }
}
