// InternalRaftRequest: the payload of a normal raft entry: which request, its bytes, and who asks. Pure,
// allocation-free.
//
// V2         Logs of 3.4 and 3.5 hold, without any envelope, an etcdserverpb.Request for member attributes and the
//            cluster version. etcd tells them apart by the failure to decode; here by the content of field 2: one
//            of the method words means a bare Request (a real v2 sub-message starts with its ID, byte 0x08).
// Failure    At apply, bytes that do not parse are fatal for the member: the log would mean something else here
//            than elsewhere. So this reads what etcd reads, but refuses two different requests in one entry, which
//            no etcd writes and for which no order of preference is right.
using System;
using Cairn.Base;

namespace Cairn.Core.Protocol;

/// <summary>What an entry asks for; values are etcd's field numbers, they are on disk and never change.</summary>
public enum RequestKind
{
    /// <summary>No request field at all.</summary>
    None = 0,

    /// <summary>A bare etcdserverpb.Request (see the file header) or one in field 2.</summary>
    V2 = 2,
    Range = 3,
    Put = 4,
    DeleteRange = 5,
    Txn = 6,
    Compaction = 7,
    LeaseGrant = 8,
    LeaseRevoke = 9,
    Alarm = 10,
    LeaseCheckpoint = 11,
    AuthEnable = 1000,
    AuthDisable = 1011,
    Authenticate = 1012,
    AuthStatus = 1013,
    AuthUserAdd = 1100,
    AuthUserDelete = 1101,
    AuthUserGet = 1102,
    AuthUserChangePassword = 1103,
    AuthUserGrantRole = 1104,
    AuthUserRevokeRole = 1105,
    AuthUserList = 1106,
    AuthRoleList = 1107,
    AuthRoleAdd = 1200,
    AuthRoleDelete = 1201,
    AuthRoleGet = 1202,
    AuthRoleGrantPermission = 1203,
    AuthRoleRevokePermission = 1204,
    ClusterVersionSet = 1300,
    ClusterMemberAttrSet = 1301,
    DowngradeInfoSet = 1302,

    /// <summary>Exists for etcd's own tests; applies to nothing.</summary>
    DowngradeVersionTest = 9900,
}

/// <summary>View of a normal entry's payload; spans live as long as the payload.</summary>
public ref struct InternalRaftRequest
{
    /// <summary>Which request. A number outside the enum is a kind this server does not know.</summary>
    public RequestKind Kind;

    /// <summary>The request's own message (for a bare v2 Request: the whole payload).</summary>
    public ReadOnlySpan<byte> Body;

    /// <summary>Id that matches the waiter: header.ID, or field 1 in entries of very old versions.</summary>
    public ulong Id;

    /// <summary>Name of the user, UTF-8; empty without authentication.</summary>
    public ReadOnlySpan<byte> Username;

    /// <summary>Revision of the auth store the proposer saw; 0 without authentication.</summary>
    public ulong AuthRevision;

    /// <summary>Reads the payload of a normal entry; false if it is neither form.</summary>
    /// <param name="data">Payload; not empty (an empty entry is a leader's no-op and holds no request).</param>
    /// <param name="request">The view.</param>
    public static bool TryParse(ReadOnlySpan<byte> data, out InternalRaftRequest request)
    {
        request = default;
        var reader = new MessageReader(data);
        ulong oldId = 0;
        bool hasHeaderId = false;
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    oldId = reader.ReadUInt64();
                    break;
                case 100:
                    if (!TryReadHeader(reader.ReadBytes(), ref request, ref hasHeaderId))
                    {
                        return false;
                    }

                    break;
                case 2:
                    ReadOnlySpan<byte> second = reader.ReadBytes();
                    if (IsMethodWord(second))
                    {
                        request = default;
                        request.Kind = RequestKind.V2;
                        request.Body = data;
                        bool isRequest = V2Request.TryParse(data, out V2Request bare);
                        request.Id = bare.Id;
                        return isRequest;
                    }

                    if (!SetBody(ref request, RequestKind.V2, second))
                    {
                        return false;
                    }

                    break;
                default:
                    // An unknown request is a message; anything else unknown (none exists) is skipped as etcd would.
                    int field = reader.Field;
                    if (reader.Wire != WireType.Bytes && !IsKnown(field))
                    {
                        reader.Skip();
                        break;
                    }

                    ReadOnlySpan<byte> body = reader.ReadBytes();
                    if (reader.Failed || !SetBody(ref request, (RequestKind)field, body))
                    {
                        return false;
                    }

                    break;
            }
        }

        if (!hasHeaderId)
        {
            request.Id = oldId;
        }

        return !reader.Failed;
    }

    /// <summary>The request id of an entry's payload, without looking into the request itself; false if there is none.</summary>
    public static bool TryReadId(ReadOnlySpan<byte> data, out ulong id)
    {
        id = 0;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            if (reader.Field == 100 && reader.Wire == WireType.Bytes)
            {
                var header = new MessageReader(reader.ReadBytes());
                while (header.NextField())
                {
                    if (header.Field == 1)
                    {
                        id = header.ReadUInt64();
                        return !header.Failed && id != 0;
                    }

                    header.Skip();
                }

                return false;
            }

            reader.Skip();
        }

        return false;
    }

    /// <summary>Bytes of a request with this body and header, canonical order.</summary>
    public static int Size(RequestKind kind, int bodyLength, in RequestHeader header)
    {
        int body = ProtoSize.BytesField((int)kind, bodyLength);
        return body + ProtoSize.BytesField(100, header.Size);
    }

    /// <summary>
    /// Writes the envelope around a body; fields ascend, so kinds above 100 come after the header, as etcd writes
    /// them.
    /// </summary>
    public static void Write(scoped ref ProtoWriter writer, RequestKind kind, scoped ReadOnlySpan<byte> body, in RequestHeader header)
    {
        if ((int)kind < 100)
        {
            writer.WriteBytesField((int)kind, body);
            header.WriteField(ref writer);
        }
        else
        {
            header.WriteField(ref writer);
            writer.WriteBytesField((int)kind, body);
        }
    }

    private static bool IsMethodWord(ReadOnlySpan<byte> text) =>
        text.SequenceEqual("PUT"u8) || text.SequenceEqual("POST"u8) || text.SequenceEqual("DELETE"u8)
        || text.SequenceEqual("QGET"u8) || text.SequenceEqual("SYNC"u8);

    private static bool SetBody(ref InternalRaftRequest request, RequestKind kind, ReadOnlySpan<byte> body)
    {
        if (request.Kind != RequestKind.None)
        {
            return false;
        }

        request.Kind = kind;
        request.Body = body;
        return true;
    }

    /// <summary>True for the request fields of etcd 3.4 to 3.7.</summary>
    public static bool IsKnown(int field) => field
        is (>= 2 and <= 11)
        or 1000 or (>= 1011 and <= 1013)
        or (>= 1100 and <= 1107) or (>= 1200 and <= 1204)
        or (>= 1300 and <= 1302) or 9900;

    private static bool TryReadHeader(ReadOnlySpan<byte> data, ref InternalRaftRequest request, ref bool hasId)
    {
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    request.Id = reader.ReadUInt64();
                    hasId = true;
                    break;
                case 2:
                    request.Username = reader.ReadBytes();
                    break;
                case 3:
                    request.AuthRevision = reader.ReadUInt64();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }
}

/// <summary>etcdserverpb.RequestHeader: who proposed an entry.</summary>
public ref struct RequestHeader
{
    public ulong Id;
    public ReadOnlySpan<byte> Username;
    public ulong AuthRevision;

    /// <summary>Encoded bytes of the message itself.</summary>
    public readonly int Size =>
        ProtoSize.VarintFieldIfSet(1, Id)
        + ProtoSize.BytesFieldIfSet(2, Username.Length)
        + ProtoSize.VarintFieldIfSet(3, AuthRevision);

    /// <summary>Writes the message as field 100 of an entry.</summary>
    internal readonly void WriteField(scoped ref ProtoWriter writer)
    {
        writer.WriteTag(100, WireType.Bytes);
        writer.WriteVarint((ulong)Size);
        writer.WriteVarintFieldIfSet(1, Id);
        writer.WriteBytesFieldIfSet(2, Username);
        writer.WriteVarintFieldIfSet(3, AuthRevision);
    }
}

/// <summary>View of etcdserverpb.Request, the v2 form found in logs of 3.4 and 3.5.</summary>
public ref struct V2Request
{
    public ulong Id;
    public ReadOnlySpan<byte> Method;
    public ReadOnlySpan<byte> Path;
    public ReadOnlySpan<byte> Val;

    /// <summary>Milliseconds since 1970 for SYNC.</summary>
    public long Time;

    /// <summary>Reads a message; fields that no member-related request uses are checked and dropped.</summary>
    public static bool TryParse(ReadOnlySpan<byte> data, out V2Request request)
    {
        request = default;
        var reader = new MessageReader(data);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    request.Id = reader.ReadUInt64();
                    break;
                case 2:
                    request.Method = reader.ReadBytes();
                    break;
                case 3:
                    request.Path = reader.ReadBytes();
                    break;
                case 4:
                    request.Val = reader.ReadBytes();
                    break;
                case 6:
                    _ = reader.ReadBytes();
                    break;
                case 15:
                    request.Time = reader.ReadInt64();
                    break;
                case 5 or (>= 7 and <= 17):
                    _ = reader.ReadUInt64();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        return !reader.Failed;
    }
}
