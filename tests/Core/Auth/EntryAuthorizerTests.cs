// What entries are refused at apply: the union of permissions, every branch of a txn, the keys of leases.
using System.Collections.Generic;
using Cairn.Core.Protocol;
using Cairn.Core.Tests.Server;
using CsCheck;
using Xunit;
using static Cairn.Core.Tests.Authorization.AuthWorld;

namespace Cairn.Core.Tests.Authorization;

public sealed class EntryAuthorizerTests
{
    [Fact]
    public void Disabled_AnybodyMayDoAnything()
    {
        using var world = new AuthWorld();
        Assert.Equal(ErrorCode.None, world.Judge("", RequestKind.Put, Requests.Put("k", "v")));
        Assert.Equal(ErrorCode.None, world.Judge("", RequestKind.AuthUserAdd, []));
    }

    [Fact]
    public void Enabled_WhoAndWhen_IsJudgedFirst()
    {
        using AuthWorld world = AuthWorld.Enabled();
        world.Grant("r", ReadWrite, "k");
        byte[] put = Requests.Put("k", "v");
        Assert.Equal(ErrorCode.UserEmpty, world.Judge("", RequestKind.Put, put));
        Assert.Equal(ErrorCode.None, world.Judge("alice", RequestKind.Put, put));
        Assert.Equal(ErrorCode.AuthOldRevision, world.Judge("alice", RequestKind.Put, put, world.Store.Revision - 1));
        Assert.Equal(ErrorCode.None, world.Judge("alice", RequestKind.Put, put, world.Store.Revision + 1));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("mallory", RequestKind.Put, put));
        Assert.Equal(ErrorCode.None, world.Judge("root", RequestKind.Put, put));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.AuthUserAdd, []));
        Assert.Equal(ErrorCode.UserEmpty, world.Judge("", RequestKind.AuthUserAdd, []));
        Assert.Equal(ErrorCode.None, world.Judge("root", RequestKind.AuthUserAdd, [], 1));
    }

    [Fact]
    public void Range_CoveredByTheUnionOfPermissions_IsAllowed()
    {
        using AuthWorld world = AuthWorld.Enabled();
        world.RoleAdd("s");
        world.GrantRole("alice", "s");
        world.Grant("r", Read, "a", "c");
        world.Grant("s", Read, "c", "f");
        Assert.Equal(ErrorCode.None, world.Judge("alice", RequestKind.Range, Requests.Range("b", 0, "e")));
        Assert.Equal(ErrorCode.None, world.Judge("alice", RequestKind.Range, Requests.Range("a", 0, "f")));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.Range, Requests.Range("b", 0, "f\0")));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.Range, Requests.Range("b", 0, "\0")));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.DeleteRange, Requests.Delete("b", "c")));
    }

    [Fact]
    public void Put_WithPreviousValueOrLease_NeedsMore()
    {
        using AuthWorld world = AuthWorld.Enabled();
        world.Grant("r", Write, "a", "c");
        byte[] previous = Requests.Message((1, Bytes("a")), (2, Bytes("v")), (4, 1UL));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.Put, previous));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.DeleteRange, Requests.Message((1, Bytes("a")), (3, 1UL))));

        world.Lessor.ApplyGrant(Requests.Numbers(60, 9), world.Buckets, out _);
        world.Lessor.Attach(9, Bytes("b"));
        Assert.Equal(ErrorCode.None, world.Judge("alice", RequestKind.Put, Requests.Put("a", "v", 9)));
        Assert.Equal(ErrorCode.None, world.Judge("alice", RequestKind.LeaseRevoke, Requests.Numbers(9)));
        world.Lessor.Attach(9, Bytes("z"));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.Put, Requests.Put("a", "v", 9)));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.LeaseRevoke, Requests.Numbers(9)));
        Assert.Equal(ErrorCode.None, world.Judge("root", RequestKind.LeaseRevoke, Requests.Numbers(9)));
    }

    [Fact]
    public void Txn_OneForbiddenPartAnywhere_IsRefusedWhole()
    {
        using AuthWorld world = AuthWorld.Enabled();
        world.Grant("r", ReadWrite, "a", "c");
        byte[] good = Requests.Message((2, Requests.Put("a", "v")));
        byte[] bad = Requests.Message((2, Requests.Put("x", "v")));
        Assert.Equal(ErrorCode.None, world.Judge("alice", RequestKind.Txn, Requests.Message((2, good), (3, good))));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.Txn, Requests.Message((2, good), (3, bad))));
        byte[] compare = Requests.Message((3, Bytes("x")));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.Txn, Requests.Message((1, compare), (2, good))));
        byte[] wide = Requests.Message((3, Bytes("a")), (64, Bytes("d")));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.Txn, Requests.Message((1, wide), (2, good))));
        byte[] nested = Requests.Message((4, Requests.Message((3, Requests.Message((4, Requests.Message((2, bad))))))));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.Txn, Requests.Message((2, good), (2, nested))));
    }

    [Fact]
    public void SelfService_OwnUserAndOwnRole_IsAllowed()
    {
        using AuthWorld world = AuthWorld.Enabled();
        Assert.Equal(ErrorCode.None, world.Judge("alice", RequestKind.AuthUserGet, Requests.Message((1, Bytes("alice")))));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.AuthUserGet, Requests.Message((1, Bytes("root")))));
        Assert.Equal(ErrorCode.None, world.Judge("alice", RequestKind.AuthRoleGet, Requests.Message((1, Bytes("r")))));
        Assert.Equal(ErrorCode.PermissionDenied, world.Judge("alice", RequestKind.AuthRoleGet, Requests.Message((1, Bytes("root")))));
    }

    [Fact]
    public void Coverage_AnyPermissions_AgreesWithKeyByKey()
    {
        // Keys of up to two letters over a three-letter alphabet are few enough to ask about each of them.
        Gen<string> key = Gen.Char["abc"].Array[1, 2].Select(static letters => new string(letters));
        Gen<(string Key, string End)> range = Gen.Select(key, Gen.OneOf(key, Gen.Const(""), Gen.Const("\0")));
        Gen.Select(range.Array[0, 5], range).Sample((permissions, asked) =>
        {
            using AuthWorld world = AuthWorld.Enabled();
            var granted = new List<(string Key, string End)>();
            foreach ((string begin, string end) in permissions)
            {
                if (world.Grant("r", Read, begin, end) == ErrorCode.None)
                {
                    granted.Add((begin, end));
                }
            }

            if (asked.End.Length > 0 && asked.End != "\0" && string.CompareOrdinal(asked.Key, asked.End) >= 0)
            {
                return; // names no key
            }

            bool expected = true;
            foreach (string probe in Probes())
            {
                if (Inside(probe, asked))
                {
                    expected &= granted.Exists(permission => Inside(probe, permission));
                }
            }

            bool allowed = world.Judge("alice", RequestKind.Range, Requests.Range(asked.Key, 0, asked.End)) == ErrorCode.None;
            Assert.Equal(expected, allowed);
        });
    }

    /// <summary>Every border of every possible range, and a key just behind it and one far behind all.</summary>
    private static IEnumerable<string> Probes()
    {
        foreach (char first in "abc")
        {
            foreach (string second in new[] { "", "a", "b", "c" })
            {
                yield return first + second;
                yield return first + second + "\0";
                yield return first + second + "\0\0";
            }
        }

        yield return "d";
    }

    private static bool Inside(string key, (string Key, string End) range) => range.End switch
    {
        "" => key == range.Key,
        "\0" => string.CompareOrdinal(key, range.Key) >= 0,
        _ => string.CompareOrdinal(key, range.Key) >= 0 && string.CompareOrdinal(key, range.End) < 0,
    };
}
