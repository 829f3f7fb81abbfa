// PeerMetrics: the figures of peers under etcd's names, filled from plain counters when somebody looks.
//
// Labels     To, From, Remote: member id in hex; Local likewise. From="0" are those who are no members.
using System.Collections.Generic;
using Prometheus;

namespace Cairn.Net.Peer;

/// <summary>Fills the registry; observes round trips as they are measured.</summary>
internal sealed class PeerMetrics : IPeerObserver
{
    private readonly PeerTransport _transport;
    private readonly Gauge _active;
    private readonly Gauge _known;
    private readonly Counter _disconnected;
    private readonly Counter _sentBytes;
    private readonly Counter _receivedBytes;
    private readonly Counter _sentFrames;
    private readonly Counter _receivedFrames;
    private readonly Counter _sendFailures;
    private readonly Counter _receiveFailures;
    private readonly Histogram _roundTrip;
    private readonly Gauge _snapshotsSending;
    private readonly Counter _snapshotsSent;
    private readonly Counter _snapshotsFailed;
    private readonly Gauge _snapshotsReceiving;
    private readonly Counter _snapshotsReceived;
    private readonly Counter _snapshotsRefused;

    public PeerMetrics(CollectorRegistry registry, PeerTransport transport)
    {
        _transport = transport;
        MetricFactory make = Metrics.WithCustomRegistry(registry);
        _active = make.CreateGauge("etcd_network_active_peers", "1 for each connected peer.", "Local", "Remote");
        _known = make.CreateGauge("etcd_network_known_peers", "1 for each known peer.", "Local", "Remote");
        _disconnected = make.CreateCounter(
            "etcd_network_disconnected_peers_total", "Connections to peers lost.", "Local", "Remote");
        _sentBytes = make.CreateCounter("etcd_network_peer_sent_bytes_total", "Bytes sent to peers.", "To");
        _receivedBytes = make.CreateCounter("etcd_network_peer_received_bytes_total", "Bytes received from peers.", "From");
        _sentFrames = make.CreateCounter("cairn_peer_sent_frames_total", "Frames sent to peers by lane.", "To", "Lane");
        _receivedFrames = make.CreateCounter("cairn_peer_received_frames_total", "Frames received from peers.", "From");
        _sendFailures = make.CreateCounter("etcd_network_peer_sent_failures_total", "Sends to peers that failed.", "To");
        _receiveFailures = make.CreateCounter(
            "etcd_network_peer_received_failures_total", "Receives from peers that failed.", "From");
        _roundTrip = make.CreateHistogram(
            "etcd_network_peer_round_trip_time_seconds",
            "Round trips of the urgent lane.",
            ["To"],
            new HistogramConfiguration { Buckets = Histogram.ExponentialBuckets(0.0001, 2, 16) });
        _snapshotsSending = make.CreateGauge(
            "etcd_network_snapshot_send_inflights_total", "Snapshots being sent.", "To");
        _snapshotsSent = make.CreateCounter("etcd_network_snapshot_send_success", "Snapshots sent.", "To");
        _snapshotsFailed = make.CreateCounter("etcd_network_snapshot_send_failures", "Snapshots that could not be sent.", "To");
        _snapshotsReceiving = make.CreateGauge(
            "etcd_network_snapshot_receive_inflights_total", "Snapshots being received.", "From");
        _snapshotsReceived = make.CreateCounter("etcd_network_snapshot_receive_success", "Snapshots received.", "From");
        _snapshotsRefused = make.CreateCounter(
            "etcd_network_snapshot_receive_failures", "Snapshots that were not received whole.", "From");
        registry.AddBeforeCollectCallback(Fill);
    }

    /// <inheritdoc/>
    public void RoundTrip(PeerCounters peer, long nanoseconds) => _roundTrip.WithLabels(peer.Label).Observe(nanoseconds / 1e9);

    private void Fill()
    {
        string local = _transport.LocalLabel;
        IReadOnlyList<ulong> known = _transport.KnownPeers();
        foreach (Gauge gauge in new[] { _active, _known })
        {
            foreach (string[] labels in gauge.GetAllLabelValues())
            {
                gauge.RemoveLabelled(labels);
            }
        }

        foreach (PeerCounters peer in _transport.AllCounters())
        {
            FillPeer(peer, local, IsKnown(known, peer.Id));
        }

        _receiveFailures.WithLabels("0").IncTo(_transport.Strangers.ReceiveFailures);
    }

    private void FillPeer(PeerCounters peer, string local, bool isKnown)
    {
        string remote = peer.Label;
        if (isKnown)
        {
            _known.WithLabels(local, remote).Set(1);
            if (peer.IsActive)
            {
                _active.WithLabels(local, remote).Set(1);
            }
        }

        _disconnected.WithLabels(local, remote).IncTo(peer.Disconnects);
        _sentBytes.WithLabels(remote).IncTo(peer.BytesSent);
        _receivedBytes.WithLabels(remote).IncTo(peer.BytesReceived);
        _sentFrames.WithLabels(remote, "urgent").IncTo(peer.UrgentFramesSent);
        _sentFrames.WithLabels(remote, "bulk").IncTo(peer.BulkFramesSent);
        _receivedFrames.WithLabels(remote).IncTo(peer.FramesReceived);
        _sendFailures.WithLabels(remote).IncTo(peer.SendFailures);
        _receiveFailures.WithLabels(remote).IncTo(peer.ReceiveFailures);
        _snapshotsSending.WithLabels(remote).Set(peer.SnapshotsSending);
        _snapshotsReceiving.WithLabels(remote).Set(peer.SnapshotsReceiving);
        if (peer.SnapshotsSent + peer.SnapshotsFailed != 0)
        {
            _snapshotsSent.WithLabels(remote).IncTo(peer.SnapshotsSent);
            _snapshotsFailed.WithLabels(remote).IncTo(peer.SnapshotsFailed);
        }

        if (peer.SnapshotsReceived + peer.SnapshotsRefused != 0)
        {
            _snapshotsReceived.WithLabels(remote).IncTo(peer.SnapshotsReceived);
            _snapshotsRefused.WithLabels(remote).IncTo(peer.SnapshotsRefused);
        }
    }

    private static bool IsKnown(IReadOnlyList<ulong> known, ulong id)
    {
        foreach (ulong each in known)
        {
            if (each == id)
            {
                return true;
            }
        }

        return false;
    }
}
