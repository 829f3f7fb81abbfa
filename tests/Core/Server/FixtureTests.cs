// FixtureTests: data directories of a real etcd 3.5.30 opened by a member: everything their README lists is found, the
// start refuses what must be refused and leaves no trace, and what was written stays readable.
using System;
using System.Buffers.Binary;
using System.IO;
using System.Security.Cryptography;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Membership;
using Cairn.Core.Mvcc;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Cairn.Core.Tests.Support;
using Xunit;

namespace Cairn.Core.Tests.Server;

public sealed class FixtureTests
{
    [Fact]
    public void Single_Opened_IsWhatItsReadmeSays()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Single);
        using PolledMember polled = PolledMember.Open(OptionsFor(dir.Path), ready: false);
        Member member = polled.Member;
        Assert.Equal(1667873637591810710UL, member.Id);
        Assert.Equal(11876663053762073683UL, member.ClusterId);
        Assert.Equal(800, member.Status.Revision);
        Assert.Equal(736, member.Status.CompactRevision);
        Assert.Equal(824UL, member.Status.AppliedIndex);
        Assert.Equal("3.5.0", member.ClusterView.Version);
        Assert.Equal(602UL, member.Status.SnapshotIndex);
        foreach ((long revision, uint hash) in new[]
        {
            (800L, 4143167794u), (790L, 2726685327u), (756L, 71145581u), (741L, 1780942938u), (737L, 1593130481u),
            (736L, 1219578093u),
        })
        {
            HashKvResult result = polled.HashKv(revision);
            Assert.Equal(hash, result.Hash);
            Assert.Equal(736, result.CompactRevision);
        }

        Assert.Equal(ErrorCode.Compacted, member.Store.HashKv(735, out _));
    }

    [Fact]
    public void Single_WrittenToAndReopened_GoesOnWhereEtcdStopped()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Single);
        using (PolledMember polled = PolledMember.Open(OptionsFor(dir.Path)))
        {
            Assert.Equal("3.5.0", polled.Member.ClusterView.Version);
            Assert.Equal(ErrorCode.None, polled.Put("/cairn", "was here"));
            Assert.Equal(801, polled.Member.Status.Revision);
            ClusterMember self = Assert.Single(polled.Member.ClusterView.Members.ToArray());
            Assert.Equal(["http://127.0.0.1:43379"], self.ClientUrls);
            polled.Stop();
        }

        using PolledMember again = PolledMember.Open(OptionsFor(dir.Path));
        Assert.Equal("was here", again.Get("/cairn"));
        Assert.Equal(4143167794u, again.HashKv(800).Hash);
        RequestSlot slot = again.Member.Rent();
        var query = new StoreQuery(StoreQueryKind.LeaseTimeToLive, 0x296a2053dd59106, Keys: true);
        Assert.Equal(ErrorCode.None, again.Await(again.Member.QueryAsync(slot, in query), "time to live"));
        Assert.Equal(72000UL, Requests.Varint(slot.Response.WrittenSpan, 4));
        Assert.Equal("/lease2/only"u8.ToArray(), Requests.Field(slot.Response.WrittenSpan, 5));
        again.Member.Return(slot);
    }

    [Fact]
    public void Auth_Enabled_EntriesRunAsRootAndTheLogSaysSo()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Auth);
        using PolledMember polled = PolledMember.Open(OptionsFor(dir.Path));
        RequestSlot slot = polled.Member.Rent();
        Assert.Equal("root"u8.ToArray(), slot.Username.ToArray());
        Assert.Equal(8UL, slot.AuthRevision);
        polled.Member.Return(slot);
        Assert.Contains(polled.Log.Lines, line => line.Contains("does not enforce it", StringComparison.Ordinal));
    }

    [Fact]
    public void Auth_EntryWithoutUser_IsRefusedAsEtcdRefusedIt()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Auth);
        using PolledMember polled = PolledMember.Open(OptionsFor(dir.Path));
        RequestSlot slot = polled.Member.Rent();
        slot.Username = default;
        slot.AuthRevision = 0;
        byte[] put = Requests.Put("k", "v");
        put.CopyTo(slot.BeginRequest(RequestKind.Put, put.Length));
        Assert.Equal(ErrorCode.UserEmpty, polled.Await(polled.Member.ProposeAsync(slot), "put by nobody"));
        polled.Member.Return(slot);
        Assert.Null(polled.Get("k"));
        Assert.Equal(ErrorCode.None, polled.Put("k", "v"));
        Assert.Equal("v", polled.Get("k"));
    }

    [Fact]
    public void Auth_WithoutSnapshotFile_FindsItsMembershipInTheLog()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Auth);
        using PolledMember polled = PolledMember.Open(OptionsFor(dir.Path), ready: false);
        Assert.Equal(807797601195558799UL, polled.Member.Id);
        Assert.Equal(2618628389087090437UL, polled.Member.ClusterId);
        Assert.Equal("auth1", Assert.Single(polled.Member.ClusterView.Members.ToArray()).Name);
        Assert.Equal(42, polled.Member.Status.Revision);
        Assert.Equal(-1, polled.Member.Status.CompactRevision);
        Assert.Equal(4141222388u, polled.HashKv(2).Hash);
        Assert.Equal(4042497147u, polled.HashKv(41).Hash);
        Assert.Equal(4200646986u, polled.HashKv(42).Hash);
    }

    [Fact]
    public void Tree_SetBackToAnEarlierIndex_IsCaughtUpFromTheLogExactly()
    {
        // The log of the auth fixture is whole from index 1, with one put that etcd refused for want of permission at 58:
        // an empty tree must come out the same, and the refused put must be refused again.
        using TempDir dir = TempDir.CopyOf(Fixture.Auth);
        string tree = Path.Combine(dir.Path, "member", "snap", "db");
        File.Delete(tree);
        Tree.Open(new PosixFileSystem(), tree, new TreeOptions(), new TestFatal()).Dispose();
        using PolledMember polled = PolledMember.Open(OptionsFor(dir.Path));
        Assert.Equal(42, polled.Member.Status.Revision);
        Assert.Equal(4200646986u, polled.HashKv(42).Hash);
    }

    [Fact]
    public void Tree_Missing_IsRefusedAndNotMade()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Single);
        File.Delete(Path.Combine(dir.Path, "member", "snap", "db"));
        Refused(dir.Path, "database file", "is missing");
    }

    [Fact]
    public void Tree_OlderThanTheSnapshot_IsRefused()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Single);
        string tree = Path.Combine(dir.Path, "member", "snap", "db");
        File.Delete(tree);
        Tree.Open(new PosixFileSystem(), tree, new TreeOptions(), new TestFatal()).Dispose();
        Refused(dir.Path, "does not match with snapshot");
    }

    [Theory]
    [InlineData("meta", "consistent_index", 2000UL, "is ahead of its log")]
    [InlineData("meta", "term", 7UL, "does not match its log")]
    public void Tree_ThatDoesNotBelongToItsLog_IsRefused(string bucket, string key, ulong value, string expected)
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Single);
        byte[] number = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(number, value);
        Poke(dir.Path, bucket, key, number);
        Refused(dir.Path, expected);
    }

    [Theory]
    [InlineData("meta", "storageVersion", "3.7.0", "storage version \"3.7.0\" is not supported")]
    [InlineData("cluster", "clusterVersion", "3.7.0", "server version is lower than determined cluster version")]
    public void Directory_OfALaterVersion_IsRefused(string bucket, string key, string value, string expected)
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Single);
        Poke(dir.Path, bucket, key, System.Text.Encoding.ASCII.GetBytes(value));
        Refused(dir.Path, expected);
    }

    [Fact]
    public void Directory_OfVersion36_IsKeptAtItsVersion()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Single);
        Poke(dir.Path, "cluster", "clusterVersion", "3.6.0"u8.ToArray());
        Poke(dir.Path, "meta", "storageVersion", "3.6.0"u8.ToArray());
        using PolledMember polled = PolledMember.Open(OptionsFor(dir.Path));
        Assert.Equal("3.6.0", polled.Member.ClusterView.Version);
        Assert.Equal("3.6.0", polled.Member.StorageVersion);
    }

    [Fact]
    public void Log_BitFlippedInsideIt_IsRefused()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Auth);
        string wal = Directory.GetFiles(Path.Combine(dir.Path, "member", "wal"), "*.wal")[0];
        using (FileStream file = File.Open(wal, FileMode.Open))
        {
            file.Position = 0x200;
            int value = file.ReadByte();
            file.Position = 0x200;
            file.WriteByte((byte)(value ^ 0x10));
        }

        Refused(dir.Path, ".wal");
    }

    [Fact]
    public void Directory_InUse_IsRefused()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Auth);
        using PolledMember first = PolledMember.Open(OptionsFor(dir.Path), ready: false);
        MemberStartException refusal = Assert.Throws<MemberStartException>(
            () => PolledMember.Open(OptionsFor(dir.Path), ready: false));
        Assert.Contains("another process", refusal.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Snapshot_Broken_IsSetAsideAndTheOlderOneServes()
    {
        using TempDir dir = TempDir.CopyOf(Fixture.Single);
        string snap = Path.Combine(dir.Path, "member", "snap", "0000000000000002-000000000000025a.snap");
        File.WriteAllBytes(snap, [1, 2, 3]);
        using PolledMember polled = PolledMember.Open(OptionsFor(dir.Path));
        Assert.Equal(301UL, polled.Member.Status.SnapshotIndex);
        Assert.True(File.Exists(snap + ".broken"));
        Assert.Equal(800, polled.Member.Status.Revision);
    }

    private static MemberOptions OptionsFor(string dataDir) => PolledMember.OptionsFor(dataDir) with
    {
        WalSegmentBytes = 64_000_000,
    };

    /// <summary>The start fails with one line that says why, and the directory is bit for bit what it was.</summary>
    private static void Refused(string dataDir, params string[] expected)
    {
        string before = Fingerprint(dataDir);
        MemberStartException refusal = Assert.Throws<MemberStartException>(
            () => PolledMember.Open(OptionsFor(dataDir), ready: false));
        foreach (string part in expected)
        {
            Assert.Contains(part, refusal.Message, StringComparison.Ordinal);
        }

        Assert.DoesNotContain('\n', refusal.Message);
        Assert.Equal(before, Fingerprint(dataDir));
    }

    private static string Fingerprint(string dataDir)
    {
        string[] files = Directory.GetFiles(dataDir, "*", SearchOption.AllDirectories);
        Array.Sort(files, StringComparer.Ordinal);
        var text = new System.Text.StringBuilder();
        foreach (string file in files)
        {
            using FileStream stream = File.OpenRead(file);
            text.Append(file).Append(' ').Append(Convert.ToHexString(SHA256.HashData(stream))).Append('\n');
        }

        return text.ToString();
    }

    private static void Poke(string dataDir, string bucket, string key, byte[] value)
    {
        string path = Path.Combine(dataDir, "member", "snap", "db");
        using Tree tree = Tree.Open(new PosixFileSystem(), path, new TreeOptions(), new TestFatal());
        TreeWriter writer = tree.BeginWrite();
        writer.CreateBucketIfMissing(System.Text.Encoding.ASCII.GetBytes(bucket))
            .Put(System.Text.Encoding.ASCII.GetBytes(key), value);
        writer.Commit();
    }
}
