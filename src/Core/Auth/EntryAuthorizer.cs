// EntryAuthorizer: what each kind of entry needs, asked of an IAuthorizer. Pure.
//
// Why        Permission is judged at apply by every member, with the user recorded in the entry, so that a replay
//            refuses exactly what was refused the first time. The bodies are walked here a second time instead of
//            mixing the questions into the execution: nothing of a txn may happen before all of it is allowed.
using System;
using Cairn.Base;
using Cairn.Core.Leases;
using Cairn.Core.Protocol;

namespace Cairn.Core.Auth;

/// <summary>Judges log entries.</summary>
public static class EntryAuthorizer
{
    private const int TxnDepthMax = 1000;

    /// <summary>Whether the entry may be executed.</summary>
    /// <param name="authorizer">Usually the AuthStore.</param>
    /// <param name="kind">Field number of the request in InternalRaftRequest.</param>
    /// <param name="body">Its body, already known to be well-formed; malformed bytes are refused here too.</param>
    /// <param name="who">From the entry's header; empty when it has none.</param>
    /// <param name="lessor">For the keys on which a lease hangs.</param>
    public static ErrorCode Authorize(
        IAuthorizer authorizer, RequestKind kind, ReadOnlySpan<byte> body, in AuthInfo who, Lessor lessor)
    {
        if (!authorizer.IsEnabled)
        {
            return ErrorCode.None;
        }

        var judge = new Judge(authorizer, who, lessor);
        switch (kind)
        {
            case RequestKind.Range:
                return judge.Range(body);
            case RequestKind.Put:
                return judge.Put(body);
            case RequestKind.DeleteRange:
                return judge.DeleteRange(body);
            case RequestKind.Txn:
                return judge.Txn(body, 0);
            case RequestKind.LeaseRevoke:
                return LeaseMessages.TryParseId(body, out long id) ? judge.LeaseKeys(id) : ErrorCode.MalformedRequest;
            case RequestKind.AuthUserGet:
                return judge.AdminOrSelf(body);
            case RequestKind.AuthRoleGet:
                return judge.AdminOrHolder(body);
            case RequestKind.AuthEnable:
            case RequestKind.AuthDisable:
            case RequestKind.AuthStatus:
            case RequestKind.AuthUserAdd:
            case RequestKind.AuthUserDelete:
            case RequestKind.AuthUserChangePassword:
            case RequestKind.AuthUserGrantRole:
            case RequestKind.AuthUserRevokeRole:
            case RequestKind.AuthUserList:
            case RequestKind.AuthRoleList:
            case RequestKind.AuthRoleAdd:
            case RequestKind.AuthRoleDelete:
            case RequestKind.AuthRoleGrantPermission:
            case RequestKind.AuthRoleRevokePermission:
                return authorizer.Authorize(who, new AuthNeed(AuthAccess.Admin));
            default:
                // Compaction, lease grants and alarms are judged at admission only: the cluster itself proposes
                // them too, as nobody. Authenticate needs nothing, cluster entries come from members.
                return ErrorCode.None;
        }
    }

    /// <summary>One entry's questions. Field numbers are those of etcd's rpc.proto.</summary>
    private readonly ref struct Judge(IAuthorizer authorizer, AuthInfo who, Lessor lessor)
    {
        private readonly IAuthorizer _authorizer = authorizer;
        private readonly AuthInfo _who = who;
        private readonly Lessor _lessor = lessor;

        public ErrorCode Range(ReadOnlySpan<byte> body)
        {
            // RangeRequest {1 key, 2 range_end}
            return Keys.TryParse(body, out Keys keys) ? Need(AuthAccess.Read, keys) : ErrorCode.MalformedRequest;
        }

        public ErrorCode Put(ReadOnlySpan<byte> body)
        {
            // PutRequest {1 key, 3 lease, 4 prev_kv}
            if (!Keys.TryParse(body, out Keys keys))
            {
                return ErrorCode.MalformedRequest;
            }

            var key = new Keys { Key = keys.Key };
            ErrorCode error = Need(AuthAccess.Write, key);
            if (error == ErrorCode.None)
            {
                error = LeaseKeys(keys.Number3);
            }

            return error == ErrorCode.None && keys.Number4 != 0 ? Need(AuthAccess.Read, key) : error;
        }

        public ErrorCode DeleteRange(ReadOnlySpan<byte> body)
        {
            // DeleteRangeRequest {1 key, 2 range_end, 3 prev_kv}
            if (!Keys.TryParse(body, out Keys keys))
            {
                return ErrorCode.MalformedRequest;
            }

            ErrorCode error = Need(AuthAccess.Write, keys);
            return error == ErrorCode.None && keys.Number3 != 0 ? Need(AuthAccess.Read, keys) : error;
        }

        public ErrorCode Txn(ReadOnlySpan<byte> body, int depth)
        {
            // TxnRequest {1 compare, 2 success, 3 failure}; Compare {3 key, 64 range_end}
            if (depth == TxnDepthMax)
            {
                return ErrorCode.MalformedRequest;
            }

            var reader = new ProtoReader(body);
            while (reader.NextField())
            {
                if (reader.Wire != WireType.Bytes)
                {
                    reader.Skip();
                    continue;
                }

                int field = reader.Field;
                ReadOnlySpan<byte> value = reader.ReadBytes();
                ErrorCode error = field switch
                {
                    1 => Compare(value),
                    2 or 3 => Operation(value, depth),
                    _ => ErrorCode.None,
                };
                if (error != ErrorCode.None)
                {
                    return error;
                }
            }

            return reader.Failed ? ErrorCode.MalformedRequest : ErrorCode.None;
        }

        /// <summary>WRITE on all keys of the lease; an unknown lease or 0 has none.</summary>
        public ErrorCode LeaseKeys(long id)
        {
            LeaseKeyEnumerator keys = _lessor.EnumerateKeys(id);
            while (keys.MoveNext())
            {
                ErrorCode error = _authorizer.Authorize(_who, new AuthNeed(AuthAccess.Write, keys.Current));
                if (error != ErrorCode.None)
                {
                    return error;
                }
            }

            return ErrorCode.None;
        }

        public ErrorCode AdminOrSelf(ReadOnlySpan<byte> body)
        {
            ErrorCode error = _authorizer.Authorize(_who, new AuthNeed(AuthAccess.Admin));
            return error == ErrorCode.None || (Keys.TryParse(body, out Keys keys) && keys.Key.SequenceEqual(_who.UserName))
                ? ErrorCode.None
                : error;
        }

        public ErrorCode AdminOrHolder(ReadOnlySpan<byte> body)
        {
            ErrorCode error = _authorizer.Authorize(_who, new AuthNeed(AuthAccess.Admin));
            AuthView? view = _authorizer as AuthView ?? (_authorizer as AuthStore)?.View;
            return error == ErrorCode.None
                || (view is not null && Keys.TryParse(body, out Keys keys) && view.HasRole(_who.UserName, keys.Key))
                ? ErrorCode.None
                : error;
        }

        private ErrorCode Compare(ReadOnlySpan<byte> body)
        {
            var keys = default(Keys);
            var reader = new ProtoReader(body);
            while (reader.NextField())
            {
                if (reader.Wire != WireType.Bytes)
                {
                    reader.Skip();
                    continue;
                }

                int field = reader.Field;
                ReadOnlySpan<byte> value = reader.ReadBytes();
                if (field == 3)
                {
                    keys.Key = value;
                }
                else if (field == 64)
                {
                    keys.RangeEnd = value;
                }
            }

            return reader.Failed ? ErrorCode.MalformedRequest : Need(AuthAccess.Read, keys);
        }

        private ErrorCode Operation(ReadOnlySpan<byte> body, int depth)
        {
            // RequestOp is a oneof {1 range, 2 put, 3 delete_range, 4 txn}: the last one counts.
            int kind = 0;
            ReadOnlySpan<byte> request = default;
            var reader = new ProtoReader(body);
            while (reader.NextField())
            {
                if (reader.Wire != WireType.Bytes || reader.Field > 4)
                {
                    reader.Skip();
                    continue;
                }

                kind = reader.Field;
                request = reader.ReadBytes();
            }

            if (reader.Failed)
            {
                return ErrorCode.MalformedRequest;
            }

            return kind switch
            {
                1 => Range(request),
                2 => Put(request),
                3 => DeleteRange(request),
                4 => Txn(request, depth + 1),
                _ => ErrorCode.None,
            };
        }

        private ErrorCode Need(AuthAccess access, in Keys keys) =>
            _authorizer.Authorize(_who, new AuthNeed(access, keys.Key, keys.RangeEnd));
    }

    /// <summary>Bytes fields 1 and 2 and varints 3 and 4 of a request; what they mean depends on it.</summary>
    private ref struct Keys
    {
        public ReadOnlySpan<byte> Key;
        public ReadOnlySpan<byte> RangeEnd;
        public long Number3;
        public long Number4;

        public static bool TryParse(ReadOnlySpan<byte> body, out Keys keys)
        {
            keys = default;
            var reader = new ProtoReader(body);
            while (reader.NextField())
            {
                switch (reader.Field)
                {
                    case 1 when reader.Wire == WireType.Bytes:
                        keys.Key = reader.ReadBytes();
                        break;
                    case 2 when reader.Wire == WireType.Bytes:
                        keys.RangeEnd = reader.ReadBytes();
                        break;
                    case 3 when reader.Wire == WireType.Varint:
                        keys.Number3 = reader.ReadInt64();
                        break;
                    case 4 when reader.Wire == WireType.Varint:
                        keys.Number4 = reader.ReadInt64();
                        break;
                    default:
                        reader.Skip();
                        break;
                }
            }

            return !reader.Failed;
        }
    }
}
