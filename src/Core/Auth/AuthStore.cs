// AuthStore: users, roles and the auth revision as replicated state.
//
// Why        Every change is a log entry, applied alike on every member; passwords come hashed, so applying needs
//            no secret and no clock. Tokens are memory only: the random part comes in the entry.
// Thread     store applies; View may be read by any thread.
// Layout     bucket auth: authEnabled (one byte), authRevision (uint64 big-endian); users and roles in AuthRecords.
// Invariants The revision grows by one for every change of users and roles and for disabling, never for enabling.
using System;
using System.Buffers;
using System.Buffers.Binary;
using System.Buffers.Text;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Threading;
using Cairn.Base;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;

namespace Cairn.Core.Auth;

/// <summary>Auth as replicated state.</summary>
public sealed class AuthStore : IAuthorizer
{
    private readonly Dictionary<string, string> _userByToken = new(StringComparer.Ordinal);
    private AuthView _view = AuthView.Empty;

    /// <summary>State after the last applied entry. Any thread.</summary>
    public AuthView View => Volatile.Read(ref _view);

    /// <inheritdoc/>
    public bool IsEnabled => View.IsEnabled;

    /// <summary>Counts changes of users and roles.</summary>
    public ulong Revision => View.Revision;

    /// <summary>Simple tokens known here.</summary>
    public int TokenCount => _userByToken.Count;

    /// <inheritdoc/>
    public ErrorCode Authorize(in AuthInfo who, in AuthNeed need) => View.Authorize(who, need);

    /// <summary>Fills the empty store from its three buckets.</summary>
    /// <exception cref="InvalidDataException">A record does not parse.</exception>
    public void Restore(IBucketReader buckets)
    {
        var visitor = new RestoreVisitor(this);
        visitor.Bucket = BucketId.Auth;
        buckets.ForEach(BucketId.Auth, ref visitor);
        visitor.Bucket = BucketId.AuthUsers;
        buckets.ForEach(BucketId.AuthUsers, ref visitor);
        visitor.Bucket = BucketId.AuthRoles;
        buckets.ForEach(BucketId.AuthRoles, ref visitor);
    }

    /// <summary>First start: the revision begins at 1. Does nothing on a store that has one.</summary>
    public void EnsureRevision(IBucketWriter writer)
    {
        if (_view.Revision == 0)
        {
            Commit(writer, _view);
        }
    }

    /// <summary>True for the kinds that <see cref="Apply"/> takes.</summary>
    public static bool Applies(RequestKind kind) => kind is RequestKind.AuthEnable or RequestKind.AuthDisable
        or RequestKind.Authenticate or RequestKind.AuthStatus
        or (>= RequestKind.AuthUserAdd and <= RequestKind.AuthRoleList)
        or (>= RequestKind.AuthRoleAdd and <= RequestKind.AuthRoleRevokePermission);

    /// <summary>Applies one auth entry (<see cref="Applies"/>) that the caller has authorised.</summary>
    /// <param name="kind">Field number in InternalRaftRequest.</param>
    /// <param name="body">The request.</param>
    /// <param name="index">The entry's log index: part of every simple token.</param>
    /// <param name="writer">Takes the bucket changes.</param>
    /// <param name="response">Receives the response fields behind the header.</param>
    /// <exception cref="InvalidDataException">The entry carries a plain password, as only etcd 3.4 logged it.</exception>
    public ErrorCode Apply(
        RequestKind kind, ReadOnlySpan<byte> body, ulong index, IBucketWriter writer, IBufferWriter<byte> response)
    {
        return kind switch
        {
            RequestKind.AuthEnable => Enable(writer),
            RequestKind.AuthDisable => Disable(writer),
            RequestKind.AuthStatus => Status(response),
            RequestKind.Authenticate => Authenticate(body, index, response),
            RequestKind.AuthUserAdd => UserAdd(body, writer),
            RequestKind.AuthUserDelete => UserDelete(body, writer),
            RequestKind.AuthUserGet => UserGet(body, response),
            RequestKind.AuthUserChangePassword => UserChangePassword(body, writer),
            RequestKind.AuthUserGrantRole => UserGrantRole(body, writer),
            RequestKind.AuthUserRevokeRole => UserRevokeRole(body, writer),
            RequestKind.AuthUserList => WriteNames(_view.Users.Keys, response),
            RequestKind.AuthRoleList => WriteNames(_view.Roles.Keys, response),
            RequestKind.AuthRoleAdd => RoleAdd(body, writer),
            RequestKind.AuthRoleDelete => RoleDelete(body, writer),
            RequestKind.AuthRoleGet => RoleGet(body, response),
            RequestKind.AuthRoleGrantPermission => RoleGrantPermission(body, writer),
            RequestKind.AuthRoleRevokePermission => RoleRevokePermission(body, writer),
            _ => throw new ArgumentOutOfRangeException(nameof(kind)),
        };
    }

    /// <summary>The user of a simple token, one char per byte; false if it is unknown here.</summary>
    internal bool TryGetTokenUser(string token, out string? user) => _userByToken.TryGetValue(token, out user);

    private ErrorCode Enable(IBucketWriter writer)
    {
        if (_view.IsEnabled)
        {
            return ErrorCode.None;
        }

        if (!_view.Users.TryGetValue(ByteName.Root, out AuthUser? root))
        {
            return ErrorCode.RootUserNotExist;
        }

        if (!root.HasRole(ByteName.Root))
        {
            return ErrorCode.RootRoleNotExist;
        }

        writer.Put(BucketId.Auth, "authEnabled"u8, [1]);
        Publish(_view.With(isEnabled: true));
        return ErrorCode.None;
    }

    private ErrorCode Disable(IBucketWriter writer)
    {
        if (_view.IsEnabled)
        {
            writer.Put(BucketId.Auth, "authEnabled"u8, [0]);
            Commit(writer, _view.With(isEnabled: false));
            _userByToken.Clear();
        }

        return ErrorCode.None;
    }

    private ErrorCode Status(IBufferWriter<byte> response)
    {
        // AuthStatusResponse {2 enabled, 3 authRevision}
        var writer = new ProtoWriter(response.GetSpan(16));
        writer.WriteVarintFieldIfSet(2, _view.IsEnabled ? 1UL : 0UL);
        writer.WriteVarintFieldIfSet(3, _view.Revision);
        response.Advance(writer.Position);
        return ErrorCode.None;
    }

    private ErrorCode Authenticate(ReadOnlySpan<byte> body, ulong index, IBufferWriter<byte> response)
    {
        // InternalAuthenticateRequest {1 name, 2 password, 3 simple_token}; the password was compared before.
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b1110))
        {
            return ErrorCode.MalformedRequest;
        }

        if (!_view.IsEnabled)
        {
            return ErrorCode.AuthNotEnabled;
        }

        if (!_view.Users.TryGetValue(fields.Name(1), out AuthUser? user) || user.NoPassword)
        {
            return ErrorCode.AuthFailed;
        }

        string token = fields.Name(3) + "." + index.ToString(CultureInfo.InvariantCulture);
        _userByToken[token] = user.Name;
        AuthRole.WriteBytes(response, 2, ByteName.ToBytes(token));
        return ErrorCode.None;
    }

    private ErrorCode UserAdd(ReadOnlySpan<byte> body, IBucketWriter writer)
    {
        // AuthUserAddRequest {1 name, 2 password, 3 options, 4 hashedPassword}
        var fields = default(AuthFields);
        bool noPassword = false;
        if (!fields.TryParse(body, 0b11110) || !AuthUser.TryParseOptions(fields.Span(3), ref noPassword))
        {
            return ErrorCode.MalformedRequest;
        }

        if (fields.Span(1).IsEmpty)
        {
            return ErrorCode.UserEmpty;
        }

        string name = fields.Name(1);
        if (_view.Users.ContainsKey(name))
        {
            return ErrorCode.UserAlreadyExist;
        }

        byte[] password = [];
        if (!noPassword && !TrySelectPassword(fields.Span(2), fields.Span(4), out password))
        {
            return ErrorCode.NoPasswordUser;
        }

        return PutUser(writer, new AuthUser(name, password, [], HasOptions: true, noPassword));
    }

    private ErrorCode UserDelete(ReadOnlySpan<byte> body, IBucketWriter writer)
    {
        // AuthUserDeleteRequest {1 name}
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b10))
        {
            return ErrorCode.MalformedRequest;
        }

        string name = fields.Name(1);
        if (_view.IsEnabled && name == ByteName.Root)
        {
            return ErrorCode.InvalidAuthManagement;
        }

        if (!_view.Users.ContainsKey(name))
        {
            return ErrorCode.UserNotFound;
        }

        writer.Delete(BucketId.AuthUsers, fields.Span(1));
        Commit(writer, _view.With(users: _view.Users.Remove(name)));
        DropTokens(name);
        return ErrorCode.None;
    }

    private ErrorCode UserGet(ReadOnlySpan<byte> body, IBufferWriter<byte> response)
    {
        // AuthUserGetRequest {1 name}; AuthUserGetResponse {2 roles}
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b10))
        {
            return ErrorCode.MalformedRequest;
        }

        return _view.Users.TryGetValue(fields.Name(1), out AuthUser? user)
            ? WriteNames(user.Roles, response)
            : ErrorCode.UserNotFound;
    }

    private ErrorCode UserChangePassword(ReadOnlySpan<byte> body, IBucketWriter writer)
    {
        // AuthUserChangePasswordRequest {1 name, 2 password, 3 hashedPassword}
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b1110))
        {
            return ErrorCode.MalformedRequest;
        }

        if (!_view.Users.TryGetValue(fields.Name(1), out AuthUser? user))
        {
            return ErrorCode.UserNotFound;
        }

        byte[] password = [];
        if (!user.NoPassword && !TrySelectPassword(fields.Span(2), fields.Span(3), out password))
        {
            return ErrorCode.NoPasswordUser;
        }

        DropTokens(user.Name);
        return PutUser(writer, user with { Password = password });
    }

    private ErrorCode UserGrantRole(ReadOnlySpan<byte> body, IBucketWriter writer)
    {
        // AuthUserGrantRoleRequest {1 user, 2 role}
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b110))
        {
            return ErrorCode.MalformedRequest;
        }

        if (!_view.Users.TryGetValue(fields.Name(1), out AuthUser? user))
        {
            return ErrorCode.UserNotFound;
        }

        string role = fields.Name(2);
        if (role != ByteName.Root && !_view.Roles.ContainsKey(role))
        {
            return ErrorCode.RoleNotFound;
        }

        if (user.HasRole(role))
        {
            return ErrorCode.None;
        }

        string[] roles = [.. user.Roles, role];
        Array.Sort(roles, StringComparer.Ordinal);
        return PutUser(writer, user with { Roles = roles });
    }

    private ErrorCode UserRevokeRole(ReadOnlySpan<byte> body, IBucketWriter writer)
    {
        // AuthUserRevokeRoleRequest {1 name, 2 role}
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b110))
        {
            return ErrorCode.MalformedRequest;
        }

        string name = fields.Name(1);
        string role = fields.Name(2);
        if (_view.IsEnabled && name == ByteName.Root && role == ByteName.Root)
        {
            return ErrorCode.InvalidAuthManagement;
        }

        if (!_view.Users.TryGetValue(name, out AuthUser? user))
        {
            return ErrorCode.UserNotFound;
        }

        return user.HasRole(role)
            ? PutUser(writer, user with { Roles = Without(user.Roles, role) })
            : ErrorCode.RoleNotGranted;
    }

    private ErrorCode RoleAdd(ReadOnlySpan<byte> body, IBucketWriter writer)
    {
        // AuthRoleAddRequest {1 name}
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b10))
        {
            return ErrorCode.MalformedRequest;
        }

        if (fields.Span(1).IsEmpty)
        {
            return ErrorCode.RoleEmpty;
        }

        string name = fields.Name(1);
        return _view.Roles.ContainsKey(name) ? ErrorCode.RoleAlreadyExist : PutRole(writer, new AuthRole(name, []));
    }

    private ErrorCode RoleDelete(ReadOnlySpan<byte> body, IBucketWriter writer)
    {
        // AuthRoleDeleteRequest {1 role}
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b10))
        {
            return ErrorCode.MalformedRequest;
        }

        string name = fields.Name(1);
        if (_view.IsEnabled && name == ByteName.Root)
        {
            return ErrorCode.InvalidAuthManagement;
        }

        if (!_view.Roles.ContainsKey(name))
        {
            return ErrorCode.RoleNotFound;
        }

        writer.Delete(BucketId.AuthRoles, fields.Span(1));
        var users = _view.Users;
        foreach ((string userName, AuthUser user) in _view.Users)
        {
            if (user.HasRole(name))
            {
                AuthUser stripped = user with { Roles = Without(user.Roles, name) };
                writer.Put(BucketId.AuthUsers, ByteName.ToBytes(userName), stripped.Encode());
                users = users.SetItem(userName, stripped);
                DropTokens(userName);
            }
        }

        Commit(writer, _view.With(users: users, roles: _view.Roles.Remove(name)));
        return ErrorCode.None;
    }

    private ErrorCode RoleGet(ReadOnlySpan<byte> body, IBufferWriter<byte> response)
    {
        // AuthRoleGetRequest {1 role}; AuthRoleGetResponse {2 perm}
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b10))
        {
            return ErrorCode.MalformedRequest;
        }

        if (!_view.Roles.TryGetValue(fields.Name(1), out AuthRole? role))
        {
            return ErrorCode.RoleNotFound;
        }

        if (role.Name == ByteName.Root)
        {
            // Whatever was granted to it, root means everything: READWRITE from the first key on.
            AuthRole.WriteBytes(response, 2, new AuthPermission(PermissionKind.ReadWrite, [], [0]).Encode());
            return ErrorCode.None;
        }

        foreach (AuthPermission permission in role.Permissions)
        {
            AuthRole.WriteBytes(response, 2, permission.Encode());
        }

        return ErrorCode.None;
    }

    private ErrorCode RoleGrantPermission(ReadOnlySpan<byte> body, IBucketWriter writer)
    {
        // AuthRoleGrantPermissionRequest {1 name, 2 perm}
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b110) || !AuthPermission.TryParse(fields.Span(2), out AuthPermission granted))
        {
            return ErrorCode.MalformedRequest;
        }

        if (!fields.Has(2))
        {
            return ErrorCode.PermissionNotGiven;
        }

        if (!IsValidRange(granted))
        {
            return ErrorCode.InvalidAuthManagement;
        }

        if (!_view.Roles.TryGetValue(fields.Name(1), out AuthRole? role))
        {
            return ErrorCode.RoleNotFound;
        }

        // As etcd does: only the first permission of the same key is compared; then the new one is put behind it.
        AuthPermission[] permissions = role.Permissions;
        int first = 0;
        while (first < permissions.Length && permissions[first].Key.AsSpan().SequenceCompareTo(granted.Key) < 0)
        {
            first++;
        }

        if (first < permissions.Length && permissions[first].HasRange(granted.Key, granted.RangeEnd))
        {
            permissions = [.. permissions];
            permissions[first] = granted;
        }
        else
        {
            int after = first;
            while (after < permissions.Length && granted.Key.AsSpan().SequenceEqual(permissions[after].Key))
            {
                after++;
            }

            permissions = [.. permissions.AsSpan(0, after), granted, .. permissions.AsSpan(after)];
        }

        return PutRole(writer, role with { Permissions = permissions });
    }

    private ErrorCode RoleRevokePermission(ReadOnlySpan<byte> body, IBucketWriter writer)
    {
        // AuthRoleRevokePermissionRequest {1 role, 2 key, 3 range_end}
        var fields = default(AuthFields);
        if (!fields.TryParse(body, 0b1110))
        {
            return ErrorCode.MalformedRequest;
        }

        if (!_view.Roles.TryGetValue(fields.Name(1), out AuthRole? role))
        {
            return ErrorCode.RoleNotFound;
        }

        var kept = new List<AuthPermission>(role.Permissions.Length);
        foreach (AuthPermission permission in role.Permissions)
        {
            if (!permission.HasRange(fields.Span(2), fields.Span(3)))
            {
                kept.Add(permission);
            }
        }

        return kept.Count == role.Permissions.Length
            ? ErrorCode.PermissionNotGranted
            : PutRole(writer, role with { Permissions = kept.ToArray() });
    }

    /// <summary>The stored form of a password: the bcrypt string behind base64. False if that is no base64.</summary>
    private static bool TrySelectPassword(ReadOnlySpan<byte> plain, ReadOnlySpan<byte> hashed, out byte[] password)
    {
        if (hashed.IsEmpty && !plain.IsEmpty)
        {
            throw new InvalidDataException(
                "the log holds a password in plain text, as etcd 3.4 proposed it: let etcd 3.5 apply this log first");
        }

        password = new byte[Base64.GetMaxDecodedFromUtf8Length(hashed.Length)];
        OperationStatus status = Base64.DecodeFromUtf8(hashed, password, out _, out int written);
        password = password[..written];
        return status == OperationStatus.Done;
    }

    private static bool IsValidRange(AuthPermission permission) =>
        permission.Key.Length > 0
        && (permission.RangeEnd.Length == 0
            || KeyRange.IsOpenEnd(permission.RangeEnd)
            || permission.Key.AsSpan().SequenceCompareTo(permission.RangeEnd) < 0);

    private static string[] Without(string[] names, string name)
    {
        var kept = new List<string>(names.Length);
        foreach (string other in names)
        {
            if (other != name)
            {
                kept.Add(other);
            }
        }

        return kept.ToArray();
    }

    private static ErrorCode WriteNames(IEnumerable<string> names, IBufferWriter<byte> response)
    {
        foreach (string name in names)
        {
            AuthRole.WriteBytes(response, 2, ByteName.ToBytes(name));
        }

        return ErrorCode.None;
    }

    private ErrorCode PutUser(IBucketWriter writer, AuthUser user)
    {
        writer.Put(BucketId.AuthUsers, ByteName.ToBytes(user.Name), user.Encode());
        Commit(writer, _view.With(users: _view.Users.SetItem(user.Name, user)));
        return ErrorCode.None;
    }

    private ErrorCode PutRole(IBucketWriter writer, AuthRole role)
    {
        writer.Put(BucketId.AuthRoles, ByteName.ToBytes(role.Name), role.Encode());
        Commit(writer, _view.With(roles: _view.Roles.SetItem(role.Name, role)));
        return ErrorCode.None;
    }

    /// <summary>Counts the revision up, persists it and publishes.</summary>
    private void Commit(IBucketWriter writer, AuthView next)
    {
        ulong revision = _view.Revision + 1;
        Span<byte> value = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(value, revision);
        writer.Put(BucketId.Auth, "authRevision"u8, value);
        Publish(next.With(revision: revision));
    }

    private void Publish(AuthView view) => Volatile.Write(ref _view, view);

    private void DropTokens(string user)
    {
        // Removing while enumerating is allowed for this dictionary, and this is rare.
        foreach ((string token, string owner) in _userByToken)
        {
            if (owner == user)
            {
                _userByToken.Remove(token);
            }
        }
    }

    private struct RestoreVisitor(AuthStore store) : IBucketVisitor
    {
        public BucketId Bucket;

        public readonly void Visit(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            AuthView view = store._view;
            bool valid;
            switch (Bucket)
            {
                case BucketId.AuthUsers:
                    valid = AuthUser.TryParse(value, out AuthUser user) && user.Name == ByteName.From(key);
                    view = view.With(users: view.Users.SetItem(user.Name, user));
                    break;

                case BucketId.AuthRoles:
                    valid = AuthRole.TryParse(value, out AuthRole role) && role.Name == ByteName.From(key);
                    view = view.With(roles: view.Roles.SetItem(role.Name, role));
                    break;

                default:
                    valid = true;
                    if (key.SequenceEqual("authEnabled"u8))
                    {
                        view = view.With(isEnabled: value.Length == 1 && value[0] == 1);
                    }
                    else if (key.SequenceEqual("authRevision"u8))
                    {
                        valid = value.Length == 8;
                        view = view.With(revision: valid ? BinaryPrimitives.ReadUInt64BigEndian(value) : 0);
                    }

                    break;
            }

            if (!valid)
            {
                throw new InvalidDataException(
                    $"bucket {Bucket}: the record at key {Convert.ToHexStringLower(key)} does not parse");
            }

            store._view = view;
        }
    }
}
