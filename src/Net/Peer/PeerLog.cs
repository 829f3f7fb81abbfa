// PeerLog: what the transport says to operators. Whatever a stranger can cause as often as he likes goes through Once.
using System;
using System.Collections.Generic;
using System.Threading;
using Microsoft.Extensions.Logging;

namespace Cairn.Net.Peer;

/// <summary>Log messages of Net/Peer.</summary>
internal static partial class PeerLog
{
    [LoggerMessage(1, LogLevel.Information, "established connection with remote peer")]
    internal static partial void Established(
        ILogger log, string localMemberId, string remotePeerId, string remotePeerUrl, string remoteServerVersion);

    [LoggerMessage(2, LogLevel.Warning, "lost connection with remote peer")]
    internal static partial void Lost(ILogger log, string localMemberId, string remotePeerId, string reason);

    [LoggerMessage(3, LogLevel.Warning, "peer became inactive (message send to peer failed)")]
    internal static partial void Unreachable(ILogger log, string localMemberId, string peerId, string address, string error);

    [LoggerMessage(4, LogLevel.Warning, "remote peer refused the connection")]
    internal static partial void Refused(
        ILogger log, string localMemberId, string remotePeerId, string remotePeerUrl, string reason);

    [LoggerMessage(5, LogLevel.Warning, "refused a connection to the peer port")]
    internal static partial void Refusing(ILogger log, string localMemberId, string remoteAddress, string remotePeerId, string reason);

    [LoggerMessage(6, LogLevel.Information, "accepted a member of this cluster that is not known here yet")]
    internal static partial void AcceptedUnknown(ILogger log, string localMemberId, string remotePeerId, string remotePeerUrls);

    [LoggerMessage(7, LogLevel.Information, "sending database snapshot")]
    internal static partial void SendingSnapshot(ILogger log, string remotePeerId, ulong snapshotIndex, long bytes);

    [LoggerMessage(8, LogLevel.Information, "sent database snapshot")]
    internal static partial void SentSnapshot(ILogger log, string remotePeerId, ulong snapshotIndex, long bytes);

    [LoggerMessage(9, LogLevel.Warning, "failed to send database snapshot")]
    internal static partial void SnapshotFailed(ILogger log, string remotePeerId, ulong snapshotIndex, string error);

    [LoggerMessage(10, LogLevel.Information, "receiving database snapshot")]
    internal static partial void ReceivingSnapshot(ILogger log, string remotePeerId, ulong snapshotIndex, long bytes);

    [LoggerMessage(11, LogLevel.Warning, "failed to receive database snapshot")]
    internal static partial void ReceiveFailed(ILogger log, string remotePeerId, ulong snapshotIndex, string error);
}

/// <summary>Lets one line a cause and minute through; the causes are a closed list, so that memory is bounded.</summary>
internal sealed class OncePerMinute(Base.IClock clock)
{
    private const long MinuteNs = 60_000_000_000;
    private const int CausesMax = 256;

    private readonly Dictionary<string, long> _next = new(StringComparer.Ordinal);
    private readonly Lock _lock = new();

    /// <summary>True if this cause may be logged now. Any thread.</summary>
    public bool May(string cause)
    {
        long now = clock.NowNs;
        lock (_lock)
        {
            if (_next.TryGetValue(cause, out long next) && now < next)
            {
                return false;
            }

            if (_next.Count >= CausesMax && !_next.ContainsKey(cause))
            {
                // Somebody makes up causes: forget them all rather than grow.
                _next.Clear();
            }

            _next[cause] = now + MinuteNs;
            return true;
        }
    }
}
