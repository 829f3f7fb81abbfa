// AuthWorld: an AuthStore with short ways to apply entries to it.
using System;
using System.Buffers;
using System.Text;
using Cairn.Core.Auth;
using Cairn.Core.Leases;
using Cairn.Core.Protocol;
using Cairn.Core.Tests.Server;
using Cairn.Core.Tests.Support;

namespace Cairn.Core.Tests.Authorization;

internal sealed class AuthWorld : IDisposable
{
    public const int Read = 0;
    public const int Write = 1;
    public const int ReadWrite = 2;

    public AuthWorld()
    {
        Store.EnsureRevision(Buckets);
    }

    public AuthStore Store { get; } = new();

    public MemoryBuckets Buckets { get; } = new();

    public Lessor Lessor { get; } = new(2, 1);

    /// <summary>A world with auth on: root, and alice who holds role r.</summary>
    public static AuthWorld Enabled()
    {
        var world = new AuthWorld();
        world.UserAdd("root");
        world.GrantRole("root", "root");
        world.UserAdd("alice");
        world.RoleAdd("r");
        world.GrantRole("alice", "r");
        Xunit.Assert.Equal(ErrorCode.None, world.Apply(RequestKind.AuthEnable));
        return world;
    }

    public ErrorCode Apply(RequestKind kind, params (int Field, object Value)[] fields) => Apply(kind, out _, fields);

    public ErrorCode Apply(RequestKind kind, out byte[] response, params (int Field, object Value)[] fields)
    {
        var output = new ArrayBufferWriter<byte>();
        ErrorCode error = Store.Apply(kind, Requests.Message(fields), 75, Buckets, output);
        response = output.WrittenSpan.ToArray();
        return error;
    }

    public ErrorCode UserAdd(string name) => Apply(RequestKind.AuthUserAdd, (1, Bytes(name)), (4, Bytes("cGFzcw==")));

    public ErrorCode RoleAdd(string name) => Apply(RequestKind.AuthRoleAdd, (1, Bytes(name)));

    public ErrorCode GrantRole(string user, string role) =>
        Apply(RequestKind.AuthUserGrantRole, (1, Bytes(user)), (2, Bytes(role)));

    public ErrorCode Grant(string role, int kind, string key, string end = "") => Apply(
        RequestKind.AuthRoleGrantPermission,
        (1, Bytes(role)),
        (2, Requests.Message((1, (ulong)kind), (2, Bytes(key)), (3, Bytes(end)))));

    public ErrorCode Judge(string user, RequestKind kind, byte[] body, ulong? revision = null) => EntryAuthorizer.Authorize(
        Store, kind, body, new AuthInfo(Bytes(user), revision ?? (user.Length == 0 ? 0 : Store.Revision)), Lessor);

    public static byte[] Bytes(string text) => Encoding.Latin1.GetBytes(text);

    public void Dispose() => Lessor.Dispose();
}
