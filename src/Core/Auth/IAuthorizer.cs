// IAuthorizer: the one question asked before anything is done for somebody: may they?
//
// Why        Reads ask it on I/O threads at admission, writes on the store thread at apply, with the user and the
//            auth revision recorded when the entry was proposed. An unauthorised write is in the log and must be
//            refused again by whoever replays it, so the answer may depend on replicated state only.
// Thread     any; an implementation is immutable or publishes immutable views.
using System;
using Cairn.Core.Protocol;

namespace Cairn.Core.Auth;

/// <summary>Who asks. Borrowed for the call.</summary>
public readonly ref struct AuthInfo
{
    /// <param name="userName">Bytes of the name; empty means nobody.</param>
    /// <param name="revision">Auth revision the user's token was checked at; 0 means nobody.</param>
    public AuthInfo(ReadOnlySpan<byte> userName, ulong revision)
    {
        UserName = userName;
        Revision = revision;
    }

    public ReadOnlySpan<byte> UserName { get; }

    public ulong Revision { get; }
}

/// <summary>Kinds of right.</summary>
public enum AuthAccess : byte
{
    /// <summary>Read every key of the range.</summary>
    Read,

    /// <summary>Write every key of the range.</summary>
    Write,

    /// <summary>Hold role root. Does not look at the revision.</summary>
    Admin,

    /// <summary>Be anybody known.</summary>
    AnyUser,
}

/// <summary>What is needed. Borrowed for the call.</summary>
public readonly ref struct AuthNeed
{
    /// <param name="access">The right.</param>
    /// <param name="key">First key; ignored for Admin and AnyUser.</param>
    /// <param name="rangeEnd">Empty: the one key. A single zero byte: every key from <paramref name="key"/> on.</param>
    public AuthNeed(AuthAccess access, ReadOnlySpan<byte> key = default, ReadOnlySpan<byte> rangeEnd = default)
    {
        Access = access;
        Key = key;
        RangeEnd = rangeEnd;
    }

    public AuthAccess Access { get; }

    public ReadOnlySpan<byte> Key { get; }

    public ReadOnlySpan<byte> RangeEnd { get; }
}

/// <summary>Answers whether somebody may do something.</summary>
public interface IAuthorizer
{
    /// <summary>False: everything is allowed to everybody, callers may skip the work of asking.</summary>
    bool IsEnabled { get; }

    /// <returns>None, or UserEmpty, AuthOldRevision or PermissionDenied.</returns>
    ErrorCode Authorize(in AuthInfo who, in AuthNeed need);
}

/// <summary>Allows everything: what stands at the seam while auth is off.</summary>
public sealed class AllowAll : IAuthorizer
{
    private AllowAll()
    {
    }

    /// <summary>The one instance; it has no state.</summary>
    public static AllowAll Instance { get; } = new();

    /// <inheritdoc/>
    public bool IsEnabled => false;

    /// <inheritdoc/>
    public ErrorCode Authorize(in AuthInfo who, in AuthNeed need) => ErrorCode.None;
}
