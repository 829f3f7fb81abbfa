// AuthView: everything auth knows after one entry, immutable, and the judgement that rests on it.
//
// Why        Reads are judged on I/O threads while the store applies the next change; a view is replaced whole, so
//            a reader sees one revision or the next, never a mixture.
// Thread     any. Merged ranges of a user are made at first use and kept with the view.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Collections.Immutable;
using Cairn.Core.Protocol;

namespace Cairn.Core.Auth;

/// <summary>Users, roles and whether they count, at one auth revision.</summary>
public sealed class AuthView : IAuthorizer
{
    private readonly ConcurrentDictionary<string, UserRights> _rights = new(StringComparer.Ordinal);

    private AuthView(
        bool isEnabled,
        ulong revision,
        ImmutableSortedDictionary<string, AuthUser> users,
        ImmutableSortedDictionary<string, AuthRole> roles)
    {
        IsEnabled = isEnabled;
        Revision = revision;
        Users = users;
        Roles = roles;
    }

    /// <summary>Nobody, nothing, off, revision 0.</summary>
    public static AuthView Empty { get; } = new(
        false,
        0,
        ImmutableSortedDictionary.Create<string, AuthUser>(StringComparer.Ordinal),
        ImmutableSortedDictionary.Create<string, AuthRole>(StringComparer.Ordinal));

    /// <inheritdoc/>
    public bool IsEnabled { get; }

    /// <summary>Counts changes of users and roles; 1 on a fresh member.</summary>
    public ulong Revision { get; }

    /// <summary>How many users there are.</summary>
    public int UserCount => Users.Count;

    /// <summary>How many roles there are.</summary>
    public int RoleCount => Roles.Count;

    internal ImmutableSortedDictionary<string, AuthUser> Users { get; }

    internal ImmutableSortedDictionary<string, AuthRole> Roles { get; }

    /// <inheritdoc/>
    public ErrorCode Authorize(in AuthInfo who, in AuthNeed need)
    {
        if (!IsEnabled)
        {
            return ErrorCode.None;
        }

        switch (need.Access)
        {
            case AuthAccess.Admin:
                return who.UserName.IsEmpty ? ErrorCode.UserEmpty
                    : RightsOf(who.UserName) is { IsRoot: true } ? ErrorCode.None
                    : ErrorCode.PermissionDenied;

            case AuthAccess.AnyUser:
                return who.UserName.IsEmpty ? ErrorCode.UserEmpty : ErrorCode.None;

            case AuthAccess.Read:
            case AuthAccess.Write:
                return AuthorizeKeys(who, need);

            default:
                throw new ArgumentOutOfRangeException(nameof(need));
        }
    }

    /// <summary>True if the user exists and holds the role.</summary>
    public bool HasRole(ReadOnlySpan<byte> userName, ReadOnlySpan<byte> roleName) =>
        Users.TryGetValue(ByteName.From(userName), out AuthUser? user) && user.HasRole(ByteName.From(roleName));

    internal AuthView With(
        bool? isEnabled = null,
        ulong? revision = null,
        ImmutableSortedDictionary<string, AuthUser>? users = null,
        ImmutableSortedDictionary<string, AuthRole>? roles = null) =>
        new(isEnabled ?? IsEnabled, revision ?? Revision, users ?? Users, roles ?? Roles);

    private ErrorCode AuthorizeKeys(in AuthInfo who, in AuthNeed need)
    {
        // Revision 0 comes only with "nobody".
        if (who.Revision == 0)
        {
            return ErrorCode.UserEmpty;
        }

        if (who.Revision < Revision)
        {
            return ErrorCode.AuthOldRevision;
        }

        UserRights? rights = RightsOf(who.UserName);
        if (rights is null)
        {
            return ErrorCode.PermissionDenied;
        }

        KeyRangeSet ranges = need.Access == AuthAccess.Read ? rights.Read : rights.Write;
        return rights.IsRoot || ranges.Covers(need.Key, need.RangeEnd) ? ErrorCode.None : ErrorCode.PermissionDenied;
    }

    /// <summary>What the user may do; null for nobody. Latin-1 of a name on the stack, so a hit allocates nothing.</summary>
    private UserRights? RightsOf(ReadOnlySpan<byte> userName)
    {
        const int StackNameMax = 128;
        if (userName.Length <= StackNameMax)
        {
            Span<char> name = stackalloc char[userName.Length];
            System.Text.Encoding.Latin1.GetChars(userName, name);
            if (_rights.GetAlternateLookup<ReadOnlySpan<char>>().TryGetValue(name, out UserRights? known))
            {
                return known;
            }
        }

        if (!Users.TryGetValue(ByteName.From(userName), out AuthUser? user))
        {
            return null;
        }

        var rights = new UserRights(user, Roles);
        _rights[user.Name] = rights;
        return rights;
    }

    /// <summary>The merged permissions of all roles of one user.</summary>
    private sealed class UserRights
    {
        public UserRights(AuthUser user, ImmutableSortedDictionary<string, AuthRole> roles)
        {
            IsRoot = user.HasRole(ByteName.Root);
            var read = new List<KeyRange>();
            var write = new List<KeyRange>();
            foreach (string name in user.Roles)
            {
                if (!roles.TryGetValue(name, out AuthRole? role))
                {
                    continue;
                }

                foreach (AuthPermission permission in role.Permissions)
                {
                    KeyRange range = KeyRange.From(permission.Key, permission.RangeEnd);
                    if (permission.Kind is PermissionKind.Read or PermissionKind.ReadWrite)
                    {
                        read.Add(range);
                    }

                    if (permission.Kind is PermissionKind.Write or PermissionKind.ReadWrite)
                    {
                        write.Add(range);
                    }
                }
            }

            Read = new KeyRangeSet(read);
            Write = new KeyRangeSet(write);
        }

        public bool IsRoot { get; }

        public KeyRangeSet Read { get; }

        public KeyRangeSet Write { get; }
    }
}
