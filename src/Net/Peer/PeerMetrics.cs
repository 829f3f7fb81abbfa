// PeerMetrics: the figures of peers under etcd's names, read from plain counters when somebody looks.
//
// Labels     To, From, Remote: member id in hex; Local likewise. From="0" are those who are no members.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using Cairn.Base;
using Cairn.Net.Http;

namespace Cairn.Net.Peer;

/// <summary>Names the counters of a transport; keeps the round trips as they are measured.</summary>
internal sealed class PeerMetrics(PeerTransport transport) : IPeerObserver
{
    private static readonly long[] s_roundTrip = Distribution.Doubling(100_000, 16);
    private static readonly long[] s_snapshot = Distribution.Doubling(100_000_000, 10);
    private readonly ConcurrentDictionary<string, SharedDistribution> _roundTrips = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, SharedDistribution> _sent = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, SharedDistribution> _received = new(StringComparer.Ordinal);

    /// <inheritdoc/>
    public void RoundTrip(PeerCounters peer, long nanoseconds)
        => _roundTrips.GetOrAdd(peer.Label, static _ => new SharedDistribution(s_roundTrip, 1e9)).Observe(nanoseconds);

    /// <inheritdoc/>
    public void Snapshot(PeerCounters peer, bool sent, long nanoseconds)
        => (sent ? _sent : _received).GetOrAdd(peer.Label, static _ => new SharedDistribution(s_snapshot, 1e9)).Observe(nanoseconds);

    /// <summary>Adds the families.</summary>
    public void AddTo(MetricsPage page)
    {
        page.Add("etcd_network_active_peers", "The current number of active peer connections.", MetricKind.Gauge,
            writer => Known(writer, activeOnly: true));
        page.Add("etcd_network_known_peers", "The current number of known peers.", MetricKind.Gauge,
            writer => Known(writer, activeOnly: false));
        page.Add("etcd_network_disconnected_peers_total", "The total number of disconnected peers.", MetricKind.Counter, writer =>
        {
            foreach (PeerCounters peer in transport.AllCounters())
            {
                writer.Sample(MetricsWriter.Labels(("Local", transport.LocalLabel), ("Remote", peer.Label)), peer.Disconnects);
            }
        });
        Each(page, "etcd_network_peer_sent_bytes_total", "The total number of bytes sent to peers.", MetricKind.Counter, "To",
            static peer => peer.BytesSent);
        Each(page, "etcd_network_peer_received_bytes_total", "The total number of bytes received from peers.", MetricKind.Counter,
            "From", static peer => peer.BytesReceived);
        Each(page, "cairn_peer_received_frames_total", "Frames received from peers.", MetricKind.Counter, "From",
            static peer => peer.FramesReceived);
        Each(page, "etcd_network_peer_sent_failures_total", "The total number of send failures from peers.", MetricKind.Counter, "To",
            static peer => peer.SendFailures);
        page.Add("etcd_network_peer_received_failures_total", "The total number of receive failures from peers.",
            MetricKind.Counter, writer =>
            {
                writer.Sample("From=\"0\"", transport.Strangers.ReceiveFailures);
                foreach (PeerCounters peer in transport.AllCounters())
                {
                    writer.Sample(MetricsWriter.Labels(("From", peer.Label)), peer.ReceiveFailures);
                }
            });
        page.Add("cairn_peer_sent_frames_total", "Frames sent to peers by lane.", MetricKind.Counter, writer =>
        {
            foreach (PeerCounters peer in transport.AllCounters())
            {
                writer.Sample(MetricsWriter.Labels(("Lane", "bulk"), ("To", peer.Label)), peer.BulkFramesSent);
                writer.Sample(MetricsWriter.Labels(("Lane", "urgent"), ("To", peer.Label)), peer.UrgentFramesSent);
            }
        });
        Durations(page, "etcd_network_peer_round_trip_time_seconds", "Round-Trip-Time histogram between peers", "To", _roundTrips);
        AddSnapshots(page);
    }

    // Only those that were measured: etcd shows no peer before.
    private static void Durations(
        MetricsPage page, string name, string help, string label, ConcurrentDictionary<string, SharedDistribution> durations)
        => page.Add(name, help, MetricKind.Histogram, writer =>
        {
            foreach ((string peer, SharedDistribution each) in new SortedDictionary<string, SharedDistribution>(durations, StringComparer.Ordinal))
            {
                writer.Samples(MetricsWriter.Labels((label, peer)), each);
            }
        });

    private void AddSnapshots(MetricsPage page)
    {
        Durations(page, "etcd_network_snapshot_send_total_duration_seconds", "Total latency distributions of v3 snapshot sends", "To", _sent);
        Durations(
            page, "etcd_network_snapshot_receive_total_duration_seconds", "Total latency distributions of v3 snapshot receives", "From", _received);
        Each(page, "etcd_network_snapshot_send_inflights_total", "Total number of inflight snapshot sends", MetricKind.Gauge, "To",
            static peer => peer.SnapshotsSending);
        Each(page, "etcd_network_snapshot_receive_inflights_total", "Total number of inflight snapshot receives", MetricKind.Gauge,
            "From", static peer => peer.SnapshotsReceiving);
        Each(page, "etcd_network_snapshot_send_success", "Total number of successful snapshot sends", MetricKind.Counter, "To",
            static peer => peer.SnapshotsSent, static peer => peer.SnapshotsSent + peer.SnapshotsFailed != 0);
        Each(page, "etcd_network_snapshot_send_failures", "Total number of snapshot send failures", MetricKind.Counter, "To",
            static peer => peer.SnapshotsFailed, static peer => peer.SnapshotsSent + peer.SnapshotsFailed != 0);
        Each(page, "etcd_network_snapshot_receive_success", "Total number of successful snapshot receives", MetricKind.Counter, "From",
            static peer => peer.SnapshotsReceived, static peer => peer.SnapshotsReceived + peer.SnapshotsRefused != 0);
        Each(page, "etcd_network_snapshot_receive_failures", "Total number of snapshot receive failures", MetricKind.Counter, "From",
            static peer => peer.SnapshotsRefused, static peer => peer.SnapshotsReceived + peer.SnapshotsRefused != 0);
    }

    private void Each(
        MetricsPage page, string name, string help, MetricKind kind, string label, Func<PeerCounters, double> value,
        Func<PeerCounters, bool>? isShown = null)
        => page.Add(name, help, kind, writer =>
        {
            foreach (PeerCounters peer in transport.AllCounters())
            {
                if (isShown is null || isShown(peer))
                {
                    writer.Sample(MetricsWriter.Labels((label, peer.Label)), value(peer));
                }
            }
        });

    private void Known(MetricsWriter writer, bool activeOnly)
    {
        IReadOnlyList<ulong> known = transport.KnownPeers();
        foreach (PeerCounters peer in transport.AllCounters())
        {
            if (IsKnown(known, peer.Id) && (!activeOnly || peer.IsActive))
            {
                writer.Sample(MetricsWriter.Labels(("Local", transport.LocalLabel), ("Remote", peer.Label)), 1);
            }
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
