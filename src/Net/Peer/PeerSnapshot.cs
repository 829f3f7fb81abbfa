// PeerSnapshot: the snapshot lane: a connection of its own for each transfer, blocking sockets and a thread at both ends.
//
// Why        Both ends wait for a disk (the image is read from pages that may be cold, and synced when it is complete), so
//            neither belongs on the I/O pool, and a blocking socket is the back pressure (decision 0090).
// Order      Begin (message, length) · chunks · End (checksum) · the receiver's Result, after everything is durable.
using System;
using System.Buffers.Binary;
using System.Net.Sockets;
using System.Threading;
using Cairn.Core.Raft;
using Cairn.Core.Server;

namespace Cairn.Net.Peer;

/// <summary>Both ends of a transfer.</summary>
internal static class PeerSnapshot
{
    /// <summary>The receiver may have gigabytes to sync before it answers.</summary>
    private const int ResultMs = 300_000;

    /// <summary>Silence of the sender, which may be waiting for its pace.</summary>
    private const int SilenceMs = 30_000;

    /// <summary>Sends; blocks until the receiver has everything durable, or fails. Disposes the source.</summary>
    public static bool Send(PeerTransport transport, PeerLink? link, ulong peer, ISnapshotSource source)
    {
        long began = transport.Options.Clock.NowNs;
        PeerCounters counters = transport.CountersOf(peer);
        counters.SnapshotSending();
        string label = counters.Label;
        RaftMessage message = source.Message;
        long bytes = source.TotalBytes;
        string error = link is null ? "no link to this member" : "";
        using (source)
        {
            if (link is not null)
            {
                PeerLog.SendingSnapshot(transport.Log, label, message.Index, bytes);
                error = Send(transport, link, source, message, bytes);
            }
        }

        counters.SnapshotEnded(error.Length == 0);
        if (error.Length == 0)
        {
            transport.Options.Observer?.Snapshot(counters, sent: true, transport.Options.Clock.NowNs - began);
            PeerLog.SentSnapshot(transport.Log, label, message.Index, bytes);
        }
        else
        {
            PeerLog.SnapshotFailed(transport.Log, label, message.Index, error);
        }

        return error.Length == 0;
    }

    /// <summary>Receives on an accepted connection; blocks. Disposes the socket.</summary>
    public static void Receive(PeerTransport transport, PeerChannel channel, ulong peer)
    {
        long began = transport.Options.Clock.NowNs;
        PeerCounters counters = transport.CountersOf(peer);
        counters.SnapshotReceiving();
        bool taken = false;
        string error = "";
        ulong index = 0;
        using (channel)
        {
            try
            {
                channel.Socket.ReceiveTimeout = SilenceMs;
                channel.Socket.SendTimeout = SilenceMs;
                taken = Receive(transport, channel, peer, counters, out error, out index);
                Span<byte> result = stackalloc byte[PeerFrame.HeaderBytes + 1];
                result[PeerFrame.HeaderBytes] = taken ? (byte)1 : (byte)0;
                PeerFrame.Seal(result, FrameType.SnapshotResult);
                channel.SendAll(result);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                error = e.Message;
            }
        }

        counters.SnapshotTaken(taken);
        if (taken)
        {
            transport.Options.Observer?.Snapshot(counters, sent: false, transport.Options.Clock.NowNs - began);
        }
        else
        {
            PeerLog.ReceiveFailed(transport.Log, counters.Label, index, error);
        }
    }

    private static string Send(PeerTransport transport, PeerLink link, ISnapshotSource source, in RaftMessage message, long bytes)
    {
        DialOutcome outcome = PeerDialer.Dial(
            transport.Options, link.Urls.Count == 0 ? "" : link.Urls[0], transport.Hello(ConnectionLane.Snapshot, link.Id),
            transport.Options.DialTimeout, static _ => { });
        if (outcome.Channel is not { } channel)
        {
            return outcome.Error;
        }

        using (channel)
        {
            if (!transport.Track(channel))
            {
                return "stopping";
            }

            try
            {
                channel.Socket.SendTimeout = SilenceMs;
                channel.Socket.ReceiveTimeout = ResultMs;
                return Stream(transport, link.Counters, channel, source, in message, bytes);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return e.Message;
            }
            finally
            {
                transport.Untrack(channel);
            }
        }
    }

    private static string Stream(
        PeerTransport transport, PeerCounters counters, PeerChannel channel, ISnapshotSource source, in RaftMessage message, long bytes)
    {
        byte[] frame = new byte[PeerFrame.HeaderBytes + PeerFrame.ChunkBytes];
        int head = PeerCodec.Measure(in message);
        Span<byte> begin = frame.AsSpan(0, PeerFrame.HeaderBytes + 8 + head);
        BinaryPrimitives.WriteInt64LittleEndian(begin[PeerFrame.HeaderBytes..], bytes);
        PeerCodec.Write(in message, 0, begin[(PeerFrame.HeaderBytes + 8)..]);
        PeerFrame.Seal(begin, FrameType.SnapshotBegin);
        channel.SendAll(begin);
        using var pace = new ManualResetEvent(false);
        while (true)
        {
            long wait = source.NextReadNs - transport.Options.Clock.NowNs;
            if (wait > 1_000_000)
            {
                _ = pace.WaitOne((int)Math.Min(wait / 1_000_000, 1000));
                continue;
            }

            int count = source.Read(frame.AsSpan(PeerFrame.HeaderBytes, PeerFrame.ChunkBytes), transport.Options.Clock.NowNs);
            if (count <= 0)
            {
                break;
            }

            Span<byte> chunk = frame.AsSpan(0, PeerFrame.HeaderBytes + count);
            PeerFrame.Seal(chunk, FrameType.SnapshotChunk);
            channel.SendAll(chunk);
            counters.Sent(ConnectionLane.Snapshot, 1, chunk.Length);
        }

        Span<byte> end = frame.AsSpan(0, PeerFrame.HeaderBytes + 4);
        BinaryPrimitives.WriteUInt32LittleEndian(end[PeerFrame.HeaderBytes..], source.Checksum);
        PeerFrame.Seal(end, FrameType.SnapshotEnd);
        channel.SendAll(end);
        Span<byte> result = frame.AsSpan(0, PeerFrame.HeaderBytes + 1);
        if (!channel.ReceiveAll(result)
            || !PeerFrame.TryReadHeader(result, ConnectionLane.Snapshot, out FrameHeader header)
            || header.Type != FrameType.SnapshotResult
            || !PeerFrame.IsIntact(result, result[PeerFrame.HeaderBytes..]))
        {
            return "the receiver ended the transfer";
        }

        return result[PeerFrame.HeaderBytes] == 1 ? "" : "the receiver did not take it";
    }

    private static bool Receive(
        PeerTransport transport, PeerChannel channel, ulong peer, PeerCounters counters, out string error, out ulong index)
    {
        byte[] frame = new byte[PeerFrame.HeaderBytes + PeerFrame.ChunkBytes];
        index = 0;
        error = "the stream did not begin with an offer";
        if (Next(channel, frame, out FrameHeader header) is not FrameType.SnapshotBegin
            || header.Length < 8 + PeerCodec.MessageBytes
            || !PeerCodec.TryRead(frame.AsSpan(PeerFrame.HeaderBytes + 8, header.Length - 8), out RaftMessage message, out int length)
            || length != header.Length - 8 || message.Type != MessageType.Snapshot)
        {
            return false;
        }

        long bytes = BinaryPrimitives.ReadInt64LittleEndian(frame.AsSpan(PeerFrame.HeaderBytes));
        message.From = peer;
        message.To = transport.Member.Identity.MemberId;
        index = message.Index;
        if (bytes <= 0 || transport.Member.BeginSnapshot(in message, bytes) is not { } sink)
        {
            error = "not wanted: older than what is here, or another one is being received";
            return false;
        }

        PeerLog.ReceivingSnapshot(transport.Log, counters.Label, index, bytes);
        using (sink)
        {
            while (true)
            {
                switch (Next(channel, frame, out header))
                {
                    case FrameType.SnapshotChunk:
                        counters.Received(1, PeerFrame.HeaderBytes + header.Length);
                        if (!sink.Write(frame.AsSpan(PeerFrame.HeaderBytes, header.Length)))
                        {
                            error = "it cannot be written, or is longer than announced";
                            return false;
                        }

                        break;

                    case FrameType.SnapshotEnd when header.Length == 4:
                        error = "length or checksum are wrong";
                        return sink.Complete(BinaryPrimitives.ReadUInt32LittleEndian(frame.AsSpan(PeerFrame.HeaderBytes)));

                    default:
                        error = "the stream ended early, or is damaged";
                        return false;
                }
            }
        }
    }

    private static FrameType Next(PeerChannel channel, byte[] frame, out FrameHeader header)
    {
        header = default;
        if (!channel.ReceiveAll(frame.AsSpan(0, PeerFrame.HeaderBytes))
            || !PeerFrame.TryReadHeader(frame, ConnectionLane.Snapshot, out header))
        {
            return FrameType.None;
        }

        Span<byte> body = frame.AsSpan(PeerFrame.HeaderBytes, header.Length);
        return channel.ReceiveAll(body) && PeerFrame.IsIntact(frame, body) ? header.Type : FrameType.None;
    }
}
