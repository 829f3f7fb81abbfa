// The lease table against a plain dictionary, its bucket form, and etcd's rules for grants and revokes.
using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using Cairn.Core.Leases;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Tests.Server;
using Cairn.Core.Tests.Support;
using CsCheck;
using Xunit;

namespace Cairn.Core.Tests.Lessors;

public sealed class LessorTests
{
    [Theory]
    [InlineData(1000, 100, 2)]
    [InlineData(4000, 100, 6)]
    [InlineData(1000, 1000, 1)]
    public void MinimumTtl_OfElectionTimeout_IsOneAndAHalfRoundedUp(long election, long heartbeat, long seconds) =>
        Assert.Equal(seconds, Lessor.MinimumTtlSeconds(election, heartbeat));

    [Fact]
    public void Grant_ShortOrNegativeTtl_IsRaisedToTheMinimum()
    {
        using var world = new World();
        Assert.Equal(ErrorCode.None, world.Grant(7, 0));
        Assert.Equal(ErrorCode.None, world.Grant(8, -5));
        Assert.True(world.Lessor.TryGet(8, out LeaseInfo lease));
        Assert.Equal(2, lease.Ttl);
        Assert.Equal("0000000000000007 = 08071002\n0000000000000008 = 08081002\n", world.Buckets.Dump(BucketId.Lease));
    }

    [Fact]
    public void Grant_RefusedAsEtcdDoes_ChangesNothing()
    {
        using var world = new World();
        Assert.Equal(ErrorCode.None, world.Grant(-3, 60));
        Assert.Equal(ErrorCode.LeaseExists, world.Grant(-3, 60));
        Assert.Equal(ErrorCode.LeaseNotFound, world.Grant(0, 60));
        Assert.Equal(ErrorCode.LeaseTtlTooLarge, world.Grant(4, 9_000_000_001));
        Assert.Equal(ErrorCode.None, world.Grant(5, 9_000_000_000));
        Assert.Equal(2, world.Lessor.Count);
    }

    [Fact]
    public void Revoke_LeaseWithKeys_GivesThemSortedAndForgetsThem()
    {
        using var world = new World();
        world.Grant(1, 60);
        foreach (string key in new[] { "b", "a\0", "a", "\u00ff", "b" })
        {
            world.Lessor.Attach(1, Encoding.Latin1.GetBytes(key));
        }

        Assert.Equal(["a", "a\0", "b", "\u00ff"], world.Revoke(1)!);
        Assert.False(world.Lessor.Exists(1));
        Assert.Empty(world.Buckets[BucketId.Lease]);
        Assert.Null(world.Revoke(1));
        Assert.Equal(0, world.Lessor.AttachmentCount);
    }

    [Fact]
    public void Checkpoint_Persisted_SurvivesARestart()
    {
        using var world = new World();
        world.Grant(1, 600);
        world.Grant(2, 600);
        byte[] body = Requests.Message((1, Requests.Numbers(1, 77)));
        Assert.Equal(ErrorCode.None, world.Lessor.ApplyCheckpoint(body, world.Buckets, persist: true));
        Assert.Equal(
            ErrorCode.None,
            world.Lessor.ApplyCheckpoint(Requests.Message((1, Requests.Numbers(2, 88))), world.Buckets, persist: false));
        using var again = new Lessor(2, 9);
        again.Restore(world.Buckets);
        Assert.True(again.TryGet(1, out LeaseInfo first));
        Assert.True(again.TryGet(2, out LeaseInfo second));
        Assert.Equal((600, 77), (first.Ttl, first.RemainingTtl));
        Assert.Equal((600, 0), (second.Ttl, second.RemainingTtl));
    }

    [Fact]
    public void Table_AnyOperations_AgreeWithADictionary()
    {
        Gen<(int, long, int)> operation = Gen.Select(Gen.Int[0, 9], Gen.Long[1, 6], Gen.Int[0, 40]);
        operation.Array[0, 400].Sample(operations =>
        {
            using var world = new World();
            var model = new SortedDictionary<long, SortedSet<string>>();
            foreach ((int kind, long id, int number) in operations)
            {
                string key = "key" + number;
                byte[] bytes = Encoding.ASCII.GetBytes(key);
                switch (kind)
                {
                    case 0:
                        Assert.Equal(!model.ContainsKey(id), world.Grant(id, 100 + number) == ErrorCode.None);
                        model.TryAdd(id, new SortedSet<string>(StringComparer.Ordinal));
                        break;
                    case 1 when number < 10:
                        Assert.Equal(model.TryGetValue(id, out SortedSet<string>? keys) ? keys : null, world.Revoke(id));
                        model.Remove(id);
                        break;
                    case < 7:
                        world.Lessor.Attach(id, bytes);
                        model.GetValueOrDefault(id)?.Add(key);
                        break;
                    default:
                        world.Lessor.Detach(id, bytes);
                        model.GetValueOrDefault(id)?.Remove(key);
                        break;
                }
            }

            var found = new List<LeaseInfo>();
            world.Lessor.CopyTo(found);
            Assert.Equal(model.Keys, found.Select(static lease => lease.Id).Order());
            Assert.Equal(model.Values.Sum(static keys => keys.Count), world.Lessor.AttachmentCount);
            foreach ((long id, SortedSet<string> keys) in model)
            {
                Assert.Equal(keys, world.KeysOf(id));
            }

            using var again = new Lessor(2, 9);
            again.Restore(world.Buckets);
            Assert.Equal(model.Count, again.Count);
        });
    }

    [Fact]
    public void Messages_AnyBytes_AreReadOrRefusedWithoutException() =>
        Gen.Byte.Array[0, 40].Sample(bytes =>
        {
            using var world = new World();
            world.Lessor.ApplyGrant(bytes, world.Buckets, out _);
            world.Lessor.ApplyCheckpoint(bytes, world.Buckets, persist: true);
            using var keys = new LeaseKeySet();
            world.Lessor.ApplyRevoke(bytes, world.Buckets, keys);
        });

    private sealed class World : IDisposable
    {
        private readonly LeaseKeySet _keys = new();

        public Lessor Lessor { get; } = new(minTtlSeconds: 2, hashSeed: 5);

        public MemoryBuckets Buckets { get; } = new();

        public ErrorCode Grant(long id, long ttl) => Lessor.ApplyGrant(Requests.Numbers(ttl, id), Buckets, out _);

        public string[]? Revoke(long id) =>
            Lessor.ApplyRevoke(Requests.Numbers(id), Buckets, _keys) == ErrorCode.None ? Text() : null;

        public string[] KeysOf(long id)
        {
            Assert.True(Lessor.TryCopyKeys(id, _keys));
            return Text();
        }

        public void Dispose()
        {
            _keys.Dispose();
            Lessor.Dispose();
        }

        private string[] Text()
        {
            string[] text = new string[_keys.Count];
            for (int i = 0; i < text.Length; i++)
            {
                text[i] = Encoding.Latin1.GetString(_keys[i]);
            }

            return text;
        }
    }
}
