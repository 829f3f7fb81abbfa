// SnapshotReceiver: takes the image of a leader's tree in, and makes it durable before raft hears of it.
//
// Order      tmp file written, synced -> opened and read: structure, index, term, members -> renamed to INDEX.snap.db,
//            directory synced -> TERM-INDEX.snap written and synced -> the message goes to raft, which puts record and
//            hard state into the WAL and has the store switch. A crash before the record leaves files nobody refers to;
//            after it the next start finishes the switch (MemberOpener).
// One        at a time, from the first byte until raft has refused it or the store has switched. A transfer that has not
//            ended gives way to a newer offer: its leader has lost its link, or its place.
// Thread     Begin: any. The sink: one slow thread of the transport. Ended: raft.
using System;
using System.Globalization;
using System.IO;
using System.Threading;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Raft;
using Cairn.Wal;

namespace Cairn.Core.Server;

/// <summary>The door for snapshots from leaders.</summary>
internal sealed class SnapshotReceiver
{
    private const long GrowthRoom = 64L << 20;
    private readonly MemberEnvironment _environment;
    private readonly MemberOptions _options;
    private readonly DataDirectory _directory;
    private readonly Func<RaftMessage, bool> _deliver;
    private readonly Lock _lock = new();
    private object? _receiving; // the sink that may go on; whoever has it disposes it
    private ulong _delivered; // index of the one raft has to decide about, or the store to switch to; 0: none

    internal SnapshotReceiver(
        MemberEnvironment environment, MemberOptions options, DataDirectory directory, Func<RaftMessage, bool> deliver)
    {
        _environment = environment;
        _options = options;
        _directory = directory;
        _deliver = deliver;
    }

    internal ISnapshotSink? Begin(in RaftMessage message, long totalBytes)
    {
        if (message.Index == 0 || totalBytes <= 0)
        {
            return null;
        }

        lock (_lock)
        {
            if (_delivered != 0)
            {
                return null;
            }

            try
            {
                ServerLog.ReceivingSnapshot(
                    _environment.Log, ServerLog.Id(message.To), ServerLog.Id(message.From), message.Index, totalBytes);
                if (_receiving is null)
                {
                    RemoveStale();
                }

                var sink = new Sink(this, in message, totalBytes);
                _receiving = sink;
                return sink;
            }
            catch (FileSystemException e)
            {
                ServerLog.RefusedSnapshot(_environment.Log, message.Index, e.Message);
                return null;
            }
        }
    }

    /// <summary>Raft refused it, or the store has switched to it.</summary>
    internal void Ended(ulong index)
    {
        lock (_lock)
        {
            _delivered = _delivered == index ? 0 : _delivered;
        }
    }

    /// <summary>The sink that nobody has taken the place of may go on.</summary>
    private bool IsCurrent(Sink sink)
    {
        lock (_lock)
        {
            return _receiving == sink;
        }
    }

    /// <summary>The files are in place: from here on raft decides.</summary>
    private bool Deliver(Sink sink, in RaftMessage message)
    {
        lock (_lock)
        {
            if (_receiving != sink || _delivered != 0)
            {
                return false;
            }

            _receiving = null;
            _delivered = message.Index;
        }

        if (_deliver(message))
        {
            return true;
        }

        Ended(message.Index);
        return false;
    }

    private void Left(Sink sink)
    {
        lock (_lock)
        {
            _receiving = _receiving == sink ? null : _receiving;
        }
    }

    /// <summary>Images that raft refused.</summary>
    private void RemoveStale()
    {
        foreach (string name in _environment.FileSystem.List(_directory.Snap))
        {
            if (name.EndsWith(DataDirectory.DatabaseSuffix, StringComparison.Ordinal)
                || name.StartsWith("tmp", StringComparison.Ordinal))
            {
                _environment.FileSystem.DeleteFile(Path.Combine(_directory.Snap, name));
            }
        }
    }

    private sealed class Sink : ISnapshotSink
    {
        private readonly SnapshotReceiver _owner;
        private readonly RaftMessage _message;
        private readonly long _total;
        private readonly string _path;
        private IFile? _file;
        private long _position;
        private uint _checksum;
        private bool _delivered;

        internal Sink(SnapshotReceiver owner, in RaftMessage message, long total)
        {
            _owner = owner;
            _message = message;
            _total = total;
            ulong random = owner._environment.Random.NextUInt64();
            _path = Path.Combine(owner._directory.Snap, "tmp" + random.ToString("x16", CultureInfo.InvariantCulture));
            _file = owner._environment.FileSystem.Open(_path, FileOpenMode.CreateOrTruncate);
        }

        public bool Write(ReadOnlySpan<byte> chunk)
        {
            if (!_owner.IsCurrent(this))
            {
                return Refuse("a newer one takes its place");
            }

            if (_file is null || chunk.Length > _total - _position)
            {
                return Refuse("more bytes came than were announced");
            }

            try
            {
                _file.Write(_position, chunk);
                if (_position / WritebackBytes != (_position + chunk.Length) / WritebackBytes)
                {
                    _file.StartWriteback(_position & ~(WritebackBytes - 1), WritebackBytes); // spread what the sync will wait for
                }
            }
            catch (FileSystemException e)
            {
                return Refuse(e.Message);
            }

            _checksum = Crc32C.Append(_checksum, chunk);
            _position += chunk.Length;
            return true;
        }

        private const long WritebackBytes = 1 << 20;

        public bool Complete(uint checksum)
        {
            if (_file is null || _position != _total || checksum != _checksum)
            {
                return Refuse($"{_position} bytes of {_total} with checksum {_checksum:x8}, expected {checksum:x8}");
            }

            try
            {
                _file.Sync();
                _file.Dispose();
                _file = null;
                TreePoint point = Read();
                if (point.Index != _message.Index || point.Term != _message.LogTerm)
                {
                    return Refuse(
                        $"the image is of index {point.Index} term {point.Term}, the message of index {_message.Index} "
                        + $"term {_message.LogTerm}");
                }

                if (!_owner.IsCurrent(this))
                {
                    return Refuse("a newer one takes its place");
                }

                IFileSystem files = _owner._environment.FileSystem;
                string named = _owner._directory.SnapshotDatabase(point.Index);
                files.Rename(_path, named);
                files.SyncDirectory(_owner._directory.Snap);
                SnapFile.Save(
                    files, _owner._directory.Snap, point.Term, point.Index, point.ConfState.ToBytes(), point.V2Json);
                ServerLog.ReceivedSnapshot(_owner._environment.Log, point.Index, named);
                RaftMessage message = _message;
                message.SnapshotState = point.ConfState;
                _delivered = _owner.Deliver(this, in message);
                return _delivered || Refuse("the member is too busy to take it");
            }
            catch (Exception e) when (e is FileSystemException or TreeCorruptException or TreeLockedException or InvalidDataException)
            {
                return Refuse(e.Message);
            }
        }

        public void Dispose()
        {
            try
            {
                if (_file is not null)
                {
                    _file.Dispose();
                    _file = null;
                }

                if (!_delivered && _owner._environment.FileSystem.FileExists(_path))
                {
                    _owner._environment.FileSystem.DeleteFile(_path);
                }
            }
            catch (FileSystemException)
            {
                // What is left begins with tmp: the next transfer or start removes it.
            }

            _owner.Left(this);
        }

        private TreePoint Read()
        {
            // Opening verifies the structure. Nobody else knows the file yet.
            using Tree tree = Tree.Open(
                _owner._environment.FileSystem,
                _path,
                new TreeOptions { ReserveBytes = _total + GrowthRoom, NoSync = _owner._options.UnsafeNoSync },
                _owner._environment.Fatal);
            TreePin pin = tree.Pin();
            try
            {
                return TreeBuckets.ReadPoint(tree, pin.Root);
            }
            finally
            {
                tree.Unpin(pin);
            }
        }

        private bool Refuse(string error)
        {
            ServerLog.RefusedSnapshot(_owner._environment.Log, _message.Index, error);
            return false;
        }
    }
}
