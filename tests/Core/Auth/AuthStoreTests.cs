// Users, roles and revision by etcd's rules, and the bytes of their buckets.
using System;
using System.Text;
using Cairn.Core.Auth;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Tests.Server;
using CsCheck;
using Xunit;
using static Cairn.Core.Tests.Authorization.AuthWorld;

namespace Cairn.Core.Tests.Authorization;

public sealed class AuthStoreTests
{
    [Fact]
    public void Revision_CountsChangesAndDisabling_NotEnabling()
    {
        using AuthWorld world = AuthWorld.Enabled();
        Assert.Equal(6UL, world.Store.Revision);
        Assert.Equal(ErrorCode.None, world.Apply(RequestKind.AuthEnable));
        Assert.Equal(ErrorCode.None, world.GrantRole("alice", "r"));
        Assert.Equal(6UL, world.Store.Revision);
        Assert.Equal(ErrorCode.None, world.Apply(RequestKind.AuthDisable));
        Assert.Equal(7UL, world.Store.Revision);
        Assert.Equal(ErrorCode.None, world.Apply(RequestKind.AuthDisable));
        Assert.Equal(7UL, world.Store.Revision);
    }

    [Fact]
    public void Records_InTheBuckets_AreEtcdsBytes()
    {
        using AuthWorld world = AuthWorld.Enabled();
        world.Apply(RequestKind.AuthUserAdd, (1, Bytes("cert")), (3, Requests.Message((1, 1UL))));
        world.Grant("r", Read, "a", "b");
        world.Grant("r", ReadWrite, "a");
        Assert.Equal("61757468456e61626c6564 = 01\n617574685265766973696f6e = 0000000000000009\n", world.Buckets.Dump(BucketId.Auth));

        // name, password "pass", roles, options present and empty
        Assert.Equal("0a05616c69636512047061737" + "31a01722200", Hex(world, BucketId.AuthUsers, "alice"));
        Assert.Equal("0a046365727422020801", Hex(world, BucketId.AuthUsers, "cert"));

        // READ is zero and left out; permissions of one key stand in the order they came
        Assert.Equal("0a0172" + "1206120161" + "1a0162" + "1205080212" + "0161", Hex(world, BucketId.AuthRoles, "r"));
    }

    [Fact]
    public void Enable_WithoutRootOrItsRole_IsRefused()
    {
        using var world = new AuthWorld();
        Assert.Equal(ErrorCode.RootUserNotExist, world.Apply(RequestKind.AuthEnable));
        world.UserAdd("root");
        Assert.Equal(ErrorCode.RootRoleNotExist, world.Apply(RequestKind.AuthEnable));
        Assert.Equal(ErrorCode.None, world.GrantRole("root", "root"));
        Assert.Equal(ErrorCode.None, world.Apply(RequestKind.AuthEnable));
    }

    [Fact]
    public void Root_WhileEnabled_CannotBeTakenApart()
    {
        using AuthWorld world = AuthWorld.Enabled();
        Assert.Equal(ErrorCode.InvalidAuthManagement, world.Apply(RequestKind.AuthUserDelete, (1, Bytes("root"))));
        Assert.Equal(ErrorCode.InvalidAuthManagement, world.Apply(RequestKind.AuthRoleDelete, (1, Bytes("root"))));
        Assert.Equal(
            ErrorCode.InvalidAuthManagement,
            world.Apply(RequestKind.AuthUserRevokeRole, (1, Bytes("root")), (2, Bytes("root"))));
        world.Apply(RequestKind.AuthDisable);
        Assert.Equal(ErrorCode.None, world.Apply(RequestKind.AuthUserDelete, (1, Bytes("root"))));
    }

    [Fact]
    public void Changes_OfWhatIsNotThere_AreRefusedByName()
    {
        using var world = new AuthWorld();
        Assert.Equal(ErrorCode.UserEmpty, world.UserAdd(""));
        Assert.Equal(ErrorCode.RoleEmpty, world.RoleAdd(""));
        Assert.Equal(ErrorCode.None, world.UserAdd("u"));
        Assert.Equal(ErrorCode.UserAlreadyExist, world.UserAdd("u"));
        Assert.Equal(ErrorCode.RoleNotFound, world.GrantRole("u", "r"));
        Assert.Equal(ErrorCode.UserNotFound, world.GrantRole("x", "r"));
        Assert.Equal(ErrorCode.None, world.RoleAdd("r"));
        Assert.Equal(ErrorCode.RoleAlreadyExist, world.RoleAdd("r"));
        Assert.Equal(ErrorCode.RoleNotGranted, world.Apply(RequestKind.AuthUserRevokeRole, (1, Bytes("u")), (2, Bytes("r"))));
        Assert.Equal(ErrorCode.UserNotFound, world.Apply(RequestKind.AuthUserDelete, (1, Bytes("x"))));
        Assert.Equal(ErrorCode.UserNotFound, world.Apply(RequestKind.AuthUserChangePassword, (1, Bytes("x"))));
        Assert.Equal(ErrorCode.UserNotFound, world.Apply(RequestKind.AuthUserGet, (1, Bytes("x"))));
        Assert.Equal(ErrorCode.RoleNotFound, world.Apply(RequestKind.AuthRoleGet, (1, Bytes("x"))));
        Assert.Equal(ErrorCode.RoleNotFound, world.Apply(RequestKind.AuthRoleDelete, (1, Bytes("x"))));
        Assert.Equal(ErrorCode.RoleNotFound, world.Grant("x", Read, "k"));
        Assert.Equal(ErrorCode.PermissionNotGiven, world.Apply(RequestKind.AuthRoleGrantPermission, (1, Bytes("r"))));
        Assert.Equal(ErrorCode.InvalidAuthManagement, world.Grant("r", Read, "", "b"));
        Assert.Equal(ErrorCode.InvalidAuthManagement, world.Grant("r", Read, "b", "a"));
        Assert.Equal(ErrorCode.None, world.Grant("r", Read, "b", "\0"));
        Assert.Equal(
            ErrorCode.PermissionNotGranted,
            world.Apply(RequestKind.AuthRoleRevokePermission, (1, Bytes("r")), (2, Bytes("b"))));
        Assert.Equal(
            ErrorCode.None,
            world.Apply(RequestKind.AuthRoleRevokePermission, (1, Bytes("r")), (2, Bytes("b")), (3, new byte[1])));
        Assert.Equal(ErrorCode.AuthNotEnabled, world.Apply(RequestKind.Authenticate, (1, Bytes("u"))));
    }

    [Fact]
    public void RoleDelete_HeldByUsers_IsTakenFromThem()
    {
        using AuthWorld world = AuthWorld.Enabled();
        Assert.Equal(ErrorCode.None, world.Apply(RequestKind.AuthRoleDelete, (1, Bytes("r"))));
        Assert.Equal(7UL, world.Store.Revision);
        Assert.Equal(ErrorCode.None, world.Apply(RequestKind.AuthUserGet, out byte[] response, (1, Bytes("alice"))));
        Assert.Empty(response);
    }

    [Fact]
    public void Authenticate_Enabled_RegistersTheTokenUntilItsUserChanges()
    {
        using AuthWorld world = AuthWorld.Enabled();
        Assert.Equal(
            ErrorCode.None,
            world.Apply(RequestKind.Authenticate, out byte[] response, (1, Bytes("alice")), (3, Bytes("BaQEehkZTjvtpbyr"))));
        Assert.Equal("BaQEehkZTjvtpbyr.75", Encoding.ASCII.GetString(Requests.Field(response, 2)!));
        Assert.Equal(1, world.Store.TokenCount);
        world.Apply(RequestKind.AuthUserChangePassword, (1, Bytes("alice")), (3, Bytes("cGFzcw==")));
        Assert.Equal(0, world.Store.TokenCount);
        Assert.Equal(ErrorCode.AuthFailed, world.Apply(RequestKind.Authenticate, (1, Bytes("nobody"))));
    }

    [Fact]
    public void Restore_OfWhatWasWritten_IsTheSameState()
    {
        using AuthWorld world = AuthWorld.Enabled();
        world.Grant("r", ReadWrite, "a", "\0");
        var again = new AuthStore();
        again.Restore(world.Buckets);
        Assert.True(again.IsEnabled);
        Assert.Equal(world.Store.Revision, again.Revision);
        var alice = new AuthInfo(Bytes("alice"), again.Revision);
        Assert.Equal(ErrorCode.None, again.Authorize(alice, new AuthNeed(AuthAccess.Write, Bytes("zzz"))));
        Assert.Equal(ErrorCode.PermissionDenied, again.Authorize(alice, new AuthNeed(AuthAccess.Write, Bytes("A"))));
    }

    [Fact]
    public void Messages_AnyBytes_AreReadOrRefusedWithoutException() =>
        Gen.Select(Gen.Byte.Array[0, 40], Gen.Enum<RequestKind>()).Sample((bytes, kind) =>
        {
            using AuthWorld world = AuthWorld.Enabled();
            if (!AuthStore.Applies(kind))
            {
                world.Judge("alice", kind, bytes);
                return;
            }

            try
            {
                world.Store.Apply(kind, bytes, 1, world.Buckets, new System.Buffers.ArrayBufferWriter<byte>());
            }
            catch (System.IO.InvalidDataException e)
            {
                Assert.Contains("plain text", e.Message, StringComparison.Ordinal);
            }
        });

    private static string Hex(AuthWorld world, BucketId bucket, string key) =>
        Convert.ToHexStringLower(world.Buckets[bucket][Convert.ToHexStringLower(Bytes(key))]);
}
