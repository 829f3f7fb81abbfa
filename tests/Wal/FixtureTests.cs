// FixtureTests: directories that etcd 3.5.30 left behind, against the facts recorded when they were made.
using System;
using System.Collections.Generic;
using System.IO;
using System.Text;
using Cairn.Base;
using Xunit;

namespace Cairn.Wal.Tests;

public sealed class FixtureTests
{
    private static readonly PosixFileSystem Files = PosixFileSystem.Instance;

    [Fact]
    public void Single_ValidSnapshots_AreTheRecordedOnes()
    {
        List<WalSnapshotMark> marks = WalDirectory.ValidSnapshots(Files, Fixtures.Wal("etcd-3.5-single"));
        Assert.Equal([new(0, 0), new(301, 2), new WalSnapshotMark(602, 2)], marks);

        // One voter 17257a3c92e60296, auto_leave false.
        Assert.Equal("0896859897c9c7de92172800", Convert.ToHexStringLower(marks[1].ConfState.Span));
    }

    [Theory]
    [InlineData(0UL, 0UL, 1UL)]
    [InlineData(602UL, 2UL, 603UL)]
    public void Single_OpensFromAnySnapshot_AndGoesOn(ulong index, ulong term, ulong first)
    {
        using TempDirectory temp = new();
        string wal = Fixtures.Copy("etcd-3.5-single", temp.Path) + "/member/wal";
        WalLog log = WalDirectory.OpenForAppend(Files, wal, new WalSnapshotMark(index, term), new WalOptions(), out WalRecovery recovery);
        using (recovery)
        using (Writer writer = new(log))
        {
            Assert.True(recovery.StartFound);
            Assert.False(recovery.Repaired);
            Assert.Equal(new WalHardState(2, 0x17257a3c92e60296, 824), recovery.HardState);
            Assert.Equal(824UL, recovery.LastIndex);
            Assert.Equal(first, recovery.Entries[0].Index);
            Assert.Equal((int)(824 - first + 1), recovery.Entries.Length);
            writer.Append(3, 825, [[]], new WalHardState(3, 0x17257a3c92e60296, 824));
        }

        using WalLog again = WalDirectory.OpenForAppend(Files, wal, new WalSnapshotMark(index, term), new WalOptions(), out recovery);
        Assert.Equal(825UL, recovery.LastIndex);
        Assert.Equal(3UL, recovery.HardState.Term);
        recovery.Dispose();
    }

    [Fact]
    public void Auth_EntriesAreThoseOfTheServer()
    {
        using TempDirectory temp = new();
        string wal = Fixtures.Copy("etcd-3.5-auth", temp.Path) + "/member/wal";
        using WalLog log = WalDirectory.OpenForAppend(Files, wal, default, new WalOptions(), out WalRecovery recovery);
        using (recovery)
        {
            Assert.Equal(84UL, recovery.LastIndex);
            Assert.Equal(new WalHardState(2, 0xb35dfa36dac878f, 84), recovery.HardState);
            Assert.Contains("\"name\":\"auth1\"", Encoding.UTF8.GetString(recovery.Entries[0].Payload), StringComparison.Ordinal);
            Assert.Contains("/a/00", Encoding.UTF8.GetString(recovery.Entries[57].Payload), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Single_EntriesReadBack_EqualThoseRecovered()
    {
        using TempDirectory temp = new();
        string wal = Fixtures.Copy("etcd-3.5-single", temp.Path) + "/member/wal";
        using WalLog log = WalDirectory.OpenForAppend(Files, wal, default, new WalOptions(), out WalRecovery recovery);
        using WalEntryBuffer buffer = new();
        ulong next = 1;
        while (next <= 824)
        {
            Assert.Equal(WalReadStatus.Ok, log.ReadEntries(next, 825, 3_000_000, buffer));
            foreach (ref readonly WalEntry entry in buffer.Entries)
            {
                ref readonly WalEntry expected = ref recovery.Entries[(int)next - 1];
                Assert.Equal((expected.Term, expected.Index, expected.Type), (entry.Term, entry.Index, entry.Type));
                Assert.True(expected.Payload.SequenceEqual(entry.Payload));
                next++;
            }
        }

        Assert.Equal(WalReadStatus.Unavailable, log.ReadEntries(825, 826, 1, buffer));
        recovery.Dispose();
    }

    [Fact]
    public void Single_NewestSnapshotFile_IsLoaded()
    {
        using TempDirectory temp = new();
        string data = Fixtures.Copy("etcd-3.5-single", temp.Path);
        List<string> warnings = [];
        List<WalSnapshotMark> usable = WalDirectory.ValidSnapshots(Files, data + "/member/wal");
        SnapContents? snap = SnapFile.LoadNewest(Files, data + "/member/snap", usable, warnings.Add);
        Assert.Equal((602UL, 2UL), (snap!.Index, snap.Term));
        Assert.StartsWith("{\"Root\":", Encoding.UTF8.GetString(snap.Data), StringComparison.Ordinal);

        // The same bytes come out of our own writer.
        Assert.Equal(
            File.ReadAllBytes(data + "/member/snap/0000000000000002-000000000000025a.snap"),
            SnapFile.Encode(snap.Term, snap.Index, snap.ConfState, snap.Data));

        // A damaged one is set aside and the one before is used.
        string newest = data + "/member/snap/0000000000000002-000000000000025a.snap";
        byte[] bytes = File.ReadAllBytes(newest);
        bytes[100] ^= 1;
        File.WriteAllBytes(newest, bytes);
        snap = SnapFile.LoadNewest(Files, data + "/member/snap", usable, warnings.Add);
        Assert.Equal(301UL, snap!.Index);
        Assert.Single(warnings);
        Assert.True(File.Exists(newest + ".broken"));
        Assert.False(File.Exists(newest));

        // One without a record is left alone.
        Assert.Null(SnapFile.LoadNewest(Files, data + "/member/snap", [new WalSnapshotMark(0, 0)], warnings.Add));
        Assert.Single(warnings);
    }
}
