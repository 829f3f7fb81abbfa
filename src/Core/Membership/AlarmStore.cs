// AlarmStore: the alarms raised in the cluster, one per member and kind.
//
// Why        Raising and disarming are log entries, so every member holds the same list, and what an alarm forbids
//            is judged at apply on every member alike.
// Thread     store writes; Current may be read by any thread.
// Layout     bucket alarm: the marshalled AlarmMember {1 memberID, 2 alarm} as key, empty value.
using System;
using System.Buffers;
using System.Collections.Generic;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;

namespace Cairn.Core.Membership;

/// <summary>Kinds of alarm; the numbers are etcd's wire values.</summary>
public enum AlarmKind
{
    None = 0,
    NoSpace = 1,
    Corrupt = 2,
}

/// <summary>One raised alarm.</summary>
public readonly record struct Alarm(ulong MemberId, AlarmKind Kind);

/// <summary>An immutable list of alarms with the two questions everybody asks.</summary>
public sealed class AlarmList
{
    private readonly Alarm[] _alarms;

    internal AlarmList(Alarm[] alarms)
    {
        _alarms = alarms;
        foreach (Alarm alarm in alarms)
        {
            HasNoSpace |= alarm.Kind == AlarmKind.NoSpace;
            HasCorrupt |= alarm.Kind == AlarmKind.Corrupt;
        }
    }

    /// <summary>No alarm at all.</summary>
    public static AlarmList Empty { get; } = new([]);

    /// <summary>Ordered by kind, then member id.</summary>
    public ReadOnlySpan<Alarm> Alarms => _alarms;

    /// <summary>True if any member raised NOSPACE: writes that need space are refused.</summary>
    public bool HasNoSpace { get; }

    /// <summary>True if any member raised CORRUPT: writes are refused.</summary>
    public bool HasCorrupt { get; }
}

/// <summary>Alarms as replicated state.</summary>
public sealed class AlarmStore
{
    private const int ActionGet = 0;
    private const int ActionActivate = 1;
    private const int ActionDeactivate = 2;

    private readonly SortedSet<(int Kind, ulong MemberId)> _raised = [];
    private AlarmList _current = AlarmList.Empty;

    /// <summary>The alarms after the last applied entry. Any thread.</summary>
    public AlarmList Current => Volatile.Read(ref _current);

    /// <summary>Fills the empty store from the alarm bucket.</summary>
    /// <exception cref="System.IO.InvalidDataException">A key is not an AlarmMember.</exception>
    public void Restore(IBucketReader buckets)
    {
        var visitor = new RestoreVisitor(_raised);
        buckets.ForEach(BucketId.Alarm, ref visitor);
        Publish();
    }

    /// <summary>True if exactly this alarm is raised.</summary>
    public bool IsRaised(ulong memberId, AlarmKind kind) => _raised.Contains(((int)kind, memberId));

    /// <summary>Applies an alarm entry (field 10) and writes the response fields behind the header.</summary>
    /// <param name="body">AlarmRequest {1 action, 2 memberID, 3 alarm}.</param>
    /// <param name="writer">Takes the bucket change.</param>
    /// <param name="response">Field 2, repeated AlarmMember, of AlarmResponse.</param>
    public ErrorCode Apply(ReadOnlySpan<byte> body, IBucketWriter writer, IBufferWriter<byte> response)
    {
        if (!AlarmRequest.TryParse(body, out AlarmRequest request))
        {
            return ErrorCode.MalformedRequest;
        }

        (ulong memberId, int kind) = (request.MemberId, request.Alarm);
        switch (request.Action)
        {
            case ActionGet:
                foreach ((int raisedKind, ulong raisedBy) in _raised)
                {
                    if (kind == (int)AlarmKind.None || kind == raisedKind)
                    {
                        WriteAlarm(response, raisedBy, raisedKind);
                    }
                }

                return ErrorCode.None;

            case ActionActivate:
                if (kind == (int)AlarmKind.None)
                {
                    return ErrorCode.None;
                }

                if (_raised.Add((kind, memberId)))
                {
                    writer.Put(BucketId.Alarm, Key(stackalloc byte[24], memberId, kind), default);
                    Publish();
                }

                WriteAlarm(response, memberId, kind);
                return ErrorCode.None;

            case ActionDeactivate:
                if (_raised.Remove((kind, memberId)))
                {
                    writer.Delete(BucketId.Alarm, Key(stackalloc byte[24], memberId, kind));
                    Publish();
                    WriteAlarm(response, memberId, kind);
                }

                return ErrorCode.None;

            default:
                // A real etcd dereferences nil here; we answer, and change nothing.
                return ErrorCode.UnknownMethod;
        }
    }

    /// <summary>
    /// Whether the raised alarms forbid an entry, judged at apply before authorisation. CORRUPT wins over NOSPACE.
    /// </summary>
    /// <param name="kind">Field number of the request in InternalRaftRequest.</param>
    /// <param name="body">Its body.</param>
    public ErrorCode Judge(RequestKind kind, ReadOnlySpan<byte> body)
    {
        AlarmList current = _current;
        if (current.HasCorrupt && IsForbiddenWhenCorrupt(kind))
        {
            return ErrorCode.Corrupt;
        }

        if (current.HasNoSpace)
        {
            bool needsSpace = kind switch
            {
                RequestKind.Put or RequestKind.LeaseGrant => true,
                RequestKind.Txn => RequestChecks.QuotaCost(kind, body) != 0, // a put in either branch
                _ => false,
            };
            return needsSpace ? ErrorCode.NoSpace : ErrorCode.None;
        }

        return ErrorCode.None;
    }

    private static bool IsForbiddenWhenCorrupt(RequestKind kind) => kind is RequestKind.Range or RequestKind.Put
        or RequestKind.DeleteRange or RequestKind.Txn or RequestKind.Compaction or RequestKind.LeaseGrant
        or RequestKind.LeaseRevoke;

    private static ReadOnlySpan<byte> Key(Span<byte> buffer, ulong memberId, int kind)
    {
        int length = WriteMember(buffer, memberId, kind);
        return buffer[..length];
    }

    private static int WriteMember(Span<byte> buffer, ulong memberId, int kind)
    {
        var writer = new ProtoWriter(buffer);
        writer.WriteVarintFieldIfSet(1, memberId);
        writer.WriteVarintFieldIfSet(2, (ulong)(long)kind);
        return writer.Position;
    }

    private static void WriteAlarm(IBufferWriter<byte> response, ulong memberId, int kind)
    {
        Span<byte> member = stackalloc byte[24];
        int length = WriteMember(member, memberId, kind);
        var writer = new ProtoWriter(response.GetSpan(32));
        writer.WriteBytesField(2, member[..length]);
        response.Advance(writer.Position);
    }

    private void Publish()
    {
        var alarms = new Alarm[_raised.Count];
        int i = 0;
        foreach ((int kind, ulong memberId) in _raised)
        {
            alarms[i++] = new Alarm(memberId, (AlarmKind)kind);
        }

        Volatile.Write(ref _current, new AlarmList(alarms));
    }

    private readonly struct RestoreVisitor(SortedSet<(int Kind, ulong MemberId)> raised) : IBucketVisitor
    {
        public void Visit(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            if (!NumberFields.TryParse(key, 2, out long memberId, out long kind, out _))
            {
                throw new System.IO.InvalidDataException(
                    $"bucket alarm: key {Convert.ToHexStringLower(key)} is not an AlarmMember");
            }

            raised.Add(((int)kind, (ulong)memberId));
        }
    }
}
