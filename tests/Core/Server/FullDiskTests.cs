// FullDiskTests: no room for the next log segment is said and raises NOSPACE, so that the member stops growing while
// the segment in use still has room.
using System;
using Cairn.Base;
using Cairn.Core.Protocol;
using Cairn.Core.Server;
using Xunit;

namespace Cairn.Core.Tests.Server;

public sealed class FullDiskTests
{
    [Fact]
    public void NextLogSegment_HasNoRoom_RaisesTheAlarmUntilDisarmed()
    {
        using var dir = new TempDir();
        var files = new NoRoomForSegments { IsFull = true };
        using PolledMember polled = PolledMember.Open(PolledMember.OptionsFor(dir.Path), files: files);
        polled.Run(() => polled.Member.Alarms.HasNoSpace, "alarm");
        Assert.Equal(ErrorCode.NoSpace, polled.Put("a", "1"));
        Assert.Equal(ErrorCode.None, polled.Propose(RequestKind.DeleteRange, Requests.Delete("a")).Outcome);
        Assert.Contains(polled.Log.Lines, line => line.StartsWith("Warning no room on disk for the next log segment", StringComparison.Ordinal));
        Assert.Single(polled.Log.Lines, line => line.Contains("Free space on the disk of " + dir.Path, StringComparison.Ordinal));

        files.IsFull = false;
        byte[] disarm = Requests.Numbers(2, (long)polled.Member.Id, 1);
        Assert.Equal(ErrorCode.None, polled.Propose(RequestKind.Alarm, disarm, ProposalLane.Control).Outcome);
        Assert.Equal(ErrorCode.None, polled.Put("a", "1"));
        Assert.False(polled.Member.Alarms.HasNoSpace);
    }

    /// <summary>The machine's files, but that segments cannot be prepared.</summary>
    private sealed class NoRoomForSegments : IFileSystem
    {
        private const int NoSpace = 28;
        private readonly PosixFileSystem _files = new();

        public bool IsFull { get; set; }

        public IFile Open(string path, FileOpenMode mode, int unixMode = 0x180) =>
            IsFull && (path.EndsWith("/0.tmp", StringComparison.Ordinal) || path.EndsWith("/1.tmp", StringComparison.Ordinal))
                ? throw new FileSystemException("open", path, NoSpace, "No space left on device")
                : _files.Open(path, mode, unixMode);

        public bool FileExists(string path) => _files.FileExists(path);

        public bool DirectoryExists(string path) => _files.DirectoryExists(path);

        public void CreateDirectory(string path) => _files.CreateDirectory(path);

        public string[] List(string directory) => _files.List(directory);

        public void Rename(string from, string to) => _files.Rename(from, to);

        public void DeleteFile(string path) => _files.DeleteFile(path);

        public void DeleteDirectory(string path) => _files.DeleteDirectory(path);

        public void SyncDirectory(string path) => _files.SyncDirectory(path);
    }
}
