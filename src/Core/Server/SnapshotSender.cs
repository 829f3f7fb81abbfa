// SnapshotSender: what a leader sends to a peer that its log no longer covers: the tree as of its newest durable commit.
//
// The core's message names the oldest point that would do; what leaves is whatever the tree holds now, read from the
// pinned root itself, so message and image agree. A newer point is fine: the peer's acknowledgement says where it is.
// Thread     snapsend: Poll. A source is then used by one slow thread of the transport.
using System;
using System.IO;
using Cairn.Base;
using Cairn.Btree;
using Cairn.Core.Mvcc;
using Cairn.Core.Raft;

namespace Cairn.Core.Server;

/// <summary>Pins images and hands them to the transport.</summary>
internal sealed class SnapshotSender : IActor
{
    private readonly MemberEnvironment _environment;
    private readonly MemberOptions _options;
    private readonly Func<MvccStore> _store;
    private readonly SpscRing<RaftMessage> _jobs;
    private readonly Action<ulong, bool> _ended;

    internal SnapshotSender(
        MemberEnvironment environment, MemberOptions options, Func<MvccStore> store, SpscRing<RaftMessage> jobs,
        Action<ulong, bool> ended)
    {
        _environment = environment;
        _options = options;
        _store = store;
        _jobs = jobs;
        _ended = ended;
    }

    /// <inheritdoc/>
    public string RoleName => "snapsend";

    /// <inheritdoc/>
    public long NextDeadlineNs => long.MaxValue;

    /// <inheritdoc/>
    public bool Poll(long nowNs)
    {
        if (!_jobs.TryDequeue(out RaftMessage message))
        {
            return false;
        }

        TreeImageSource? source = null;
        try
        {
            source = TreeImageSource.Open(_store().Tree, message, _options.SnapshotBytesPerSecond, nowNs);
        }
        catch (Exception e) when (e is InvalidDataException or ObjectDisposedException or TreeCorruptException)
        {
            ServerLog.Warning(_environment.Log, $"cannot send a snapshot to {message.To:x}: {e.Message}");
        }

        if (source is null || source.Message.Index < message.Index)
        {
            source?.Dispose();
            _ended(message.To, false);
            return true;
        }

        _environment.Transport!.SendSnapshot(message.To, source);
        return true;
    }
}

/// <summary>The image of one pinned root.</summary>
internal sealed class TreeImageSource : ISnapshotSource
{
    private readonly Tree _tree;
    private readonly TreePin _pin;
    private readonly long _bytesPerSecond;
    private readonly long _startNs;
    private bool _disposed;

    private TreeImageSource(Tree tree, TreePin pin, RaftMessage message, long bytesPerSecond, long startNs)
    {
        _tree = tree;
        _pin = pin;
        Message = message;
        _bytesPerSecond = bytesPerSecond;
        _startNs = startNs;
        TotalBytes = tree.ImageBytes(pin);
    }

    /// <inheritdoc/>
    public RaftMessage Message { get; }

    /// <inheritdoc/>
    public long TotalBytes { get; }

    /// <inheritdoc/>
    public long Position { get; private set; }

    /// <inheritdoc/>
    public uint Checksum { get; private set; }

    /// <inheritdoc/>
    public long NextReadNs => _bytesPerSecond <= 0
        ? 0
        : _startNs + (long)(Position * 1e9 / _bytesPerSecond);

    internal static TreeImageSource Open(Tree tree, in RaftMessage wanted, long bytesPerSecond, long nowNs)
    {
        TreePin pin = tree.Pin();
        try
        {
            TreePoint point = TreeBuckets.ReadPoint(tree, pin.Root);
            RaftMessage message = wanted;
            message.Index = point.Index;
            message.LogTerm = point.Term;
            message.SnapshotState = point.ConfState;
            return new TreeImageSource(tree, pin, message, bytesPerSecond, nowNs);
        }
        catch
        {
            tree.Unpin(pin);
            throw;
        }
    }

    /// <inheritdoc/>
    public int Read(Span<byte> destination, long nowNs)
    {
        int read = _tree.ReadImage(_pin, Position, destination);
        Checksum = Crc32C.Append(Checksum, destination[..read]);
        Position += read;
        return read;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            _tree.Unpin(_pin);
        }
    }
}
