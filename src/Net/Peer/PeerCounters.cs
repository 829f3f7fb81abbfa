// PeerCounters: what is counted about one peer, under etcd's names when it is shown (PeerMetrics). Plain numbers, bumped
// interlocked or by one thread, read by whoever scrapes.
using System.Globalization;
using System.Threading;

namespace Cairn.Net.Peer;

/// <summary>Figures of one peer; they outlive its connections.</summary>
internal sealed class PeerCounters(ulong id)
{
    private long _bytesSent;
    private long _bytesReceived;
    private long _urgentFrames;
    private long _bulkFrames;
    private long _framesReceived;
    private long _sendFailures;
    private long _receiveFailures;
    private long _disconnects;
    private long _active;
    private long _roundTripNs;
    private long _snapshotsSending;
    private long _snapshotsSent;
    private long _snapshotsFailed;
    private long _snapshotsReceiving;
    private long _snapshotsReceived;
    private long _snapshotsRefused;

    public ulong Id { get; } = id;

    /// <summary>The id as labels carry it.</summary>
    public string Label { get; } = id.ToString("x", CultureInfo.InvariantCulture);

    public long BytesSent => Volatile.Read(ref _bytesSent);

    public long BytesReceived => Volatile.Read(ref _bytesReceived);

    public long UrgentFramesSent => Volatile.Read(ref _urgentFrames);

    public long BulkFramesSent => Volatile.Read(ref _bulkFrames);

    public long FramesReceived => Volatile.Read(ref _framesReceived);

    public long SendFailures => Volatile.Read(ref _sendFailures);

    public long ReceiveFailures => Volatile.Read(ref _receiveFailures);

    public long Disconnects => Volatile.Read(ref _disconnects);

    public bool IsActive => Volatile.Read(ref _active) != 0;

    /// <summary>Last measured; 0 for never.</summary>
    public long RoundTripNs => Volatile.Read(ref _roundTripNs);

    public long SnapshotsSending => Volatile.Read(ref _snapshotsSending);

    public long SnapshotsSent => Volatile.Read(ref _snapshotsSent);

    public long SnapshotsFailed => Volatile.Read(ref _snapshotsFailed);

    public long SnapshotsReceiving => Volatile.Read(ref _snapshotsReceiving);

    public long SnapshotsReceived => Volatile.Read(ref _snapshotsReceived);

    public long SnapshotsRefused => Volatile.Read(ref _snapshotsRefused);

    public void Sent(ConnectionLane lane, int frames, long bytes)
    {
        Interlocked.Add(ref _bytesSent, bytes);
        if (lane == ConnectionLane.Urgent)
        {
            Interlocked.Add(ref _urgentFrames, frames);
        }
        else
        {
            Interlocked.Add(ref _bulkFrames, frames);
        }
    }

    public void Received(int frames, long bytes)
    {
        Interlocked.Add(ref _bytesReceived, bytes);
        Interlocked.Add(ref _framesReceived, frames);
    }

    public void SendFailed() => Interlocked.Increment(ref _sendFailures);

    public void ReceiveFailed() => Interlocked.Increment(ref _receiveFailures);

    public void BecameActive() => Volatile.Write(ref _active, 1);

    public void BecameInactive()
    {
        if (Interlocked.Exchange(ref _active, 0) != 0)
        {
            Interlocked.Increment(ref _disconnects);
        }
    }

    public void Measured(long roundTripNs) => Volatile.Write(ref _roundTripNs, roundTripNs);

    public void SnapshotSending() => Interlocked.Increment(ref _snapshotsSending);

    public void SnapshotEnded(bool succeeded)
    {
        Interlocked.Decrement(ref _snapshotsSending);
        Interlocked.Increment(ref succeeded ? ref _snapshotsSent : ref _snapshotsFailed);
    }

    public void SnapshotReceiving() => Interlocked.Increment(ref _snapshotsReceiving);

    public void SnapshotTaken(bool succeeded)
    {
        Interlocked.Decrement(ref _snapshotsReceiving);
        Interlocked.Increment(ref succeeded ? ref _snapshotsReceived : ref _snapshotsRefused);
    }
}
