// BulkReader: the receiving end of the bulk lane of one peer: appends out of the pipe into blocks that raft takes over.
//
// Thread     The connection's own: an I/O thread at a time. The block of the message under way belongs to this reader.
// Memory     A message's entries are copied once, from the pipe's segments into a native block of their length. The length
//            is bounded per frame and only a peer that shook hands gets here; one connection a peer.
// Ends       as UrgentReader does, at the first thing that is wrong.
using System;
using System.Buffers;
using System.IO.Pipelines;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Raft;
using Cairn.Core.Server;
using Pipelines.Sockets.Unofficial;

namespace Cairn.Net.Peer;

/// <summary>Reads one connection to its end.</summary>
internal sealed unsafe partial class BulkReader
{
    private readonly PeerTransport _transport;
    private readonly PeerChannel _channel;
    private readonly IDuplexPipe _connection;
    private readonly PeerCounters _counters;
    private readonly ulong _peer;
    private readonly byte[] _header = new byte[PeerFrame.HeaderBytes];
    private readonly byte[] _head = new byte[PeerCodec.MessageBytes + PeerCodec.MaxConfigurationBytes];
    private FrameHeader _frame;
    private RaftMessage _message;
    private NativeBlock* _block;
    private int _missing; // bytes of entries still to come
    private uint _checksum;
    private Stage _stage;
    private int _closed;

    public BulkReader(PeerTransport transport, PeerChannel channel, ulong peer)
    {
        _transport = transport;
        _peer = peer;
        _counters = transport.CountersOf(peer);
        _channel = channel;
        _connection = BulkPipe.Connect(channel);
    }

    private enum Stage
    {
        Header,
        Head,
        Entries,
    }

    public bool IsClosed => Volatile.Read(ref _closed) != 0;

    /// <summary>Ends the connection; any thread.</summary>
    public void Close()
    {
        if (Interlocked.Exchange(ref _closed, 1) == 0)
        {
            _channel.Cut();
        }
    }

    // Takes whole steps out of the buffer; false at the first wrong one.
    private bool Consume(ref ReadOnlySequence<byte> buffer)
    {
        long before = buffer.Length;
        int frames = 0;
        bool good = true;
        while (good && Step(ref buffer, ref frames, out good))
        {
        }

        _counters.Received(frames, before - buffer.Length);
        return good;
    }

    private bool Step(ref ReadOnlySequence<byte> buffer, ref int frames, out bool good)
    {
        good = true;
        switch (_stage)
        {
            case Stage.Header:
                if (buffer.Length < PeerFrame.HeaderBytes)
                {
                    return false;
                }

                Take(ref buffer, _header);
                good = PeerFrame.TryReadHeader(_header, ConnectionLane.Bulk, out _frame)
                    && _frame.Type == FrameType.Raft && _frame.Length >= PeerCodec.MessageBytes;
                _checksum = PeerFrame.Begin(_header);
                _stage = Stage.Head;
                return good;

            case Stage.Head:
                if (buffer.Length < PeerCodec.MessageBytes)
                {
                    return false;
                }

                buffer.Slice(0, PeerCodec.MessageBytes).CopyTo(_head);
                int configuration = PeerCodec.ConfigurationBytes(_head);
                int length = PeerCodec.MessageBytes + configuration;
                if (length > _head.Length || length > _frame.Length)
                {
                    good = false;
                    return false;
                }

                if (buffer.Length < length)
                {
                    return false;
                }

                Take(ref buffer, _head.AsSpan(0, length));
                good = BeginMessage(_head.AsSpan(0, length));
                return good;

            default:
                if (_missing > 0)
                {
                    if (buffer.IsEmpty)
                    {
                        return false;
                    }

                    TakeEntries(ref buffer);
                    if (_missing > 0)
                    {
                        return true;
                    }
                }

                good = EndMessage();
                frames += good ? 1 : 0;
                _stage = Stage.Header;
                return good;
        }
    }

    private bool BeginMessage(ReadOnlySpan<byte> head)
    {
        if (!PeerCodec.TryRead(head, out _message, out int length) || length != head.Length)
        {
            return false;
        }

        _checksum = Crc32C.Append(_checksum, head);
        _missing = _frame.Length - length;
        _block = _missing > 0 ? EntryFrame.Rent(_transport.Member.Pool, _missing) : null;
        _stage = Stage.Entries;
        return true;
    }

    private void TakeEntries(ref ReadOnlySequence<byte> buffer)
    {
        Span<byte> body = EntryFrame.Body(_block);
        ReadOnlySpan<byte> piece = buffer.FirstSpan;
        int count = Math.Min(piece.Length, _missing);
        piece[..count].CopyTo(body[^_missing..]);
        _checksum = Crc32C.Append(_checksum, piece[..count]);
        _missing -= count;
        buffer = buffer.Slice(count);
    }

    private bool EndMessage()
    {
        bool good = _checksum == _frame.Checksum
            && EntryFrame.IsValid(_block == null ? default : EntryFrame.Body(_block), _message.EntryCount);
        if (!good)
        {
            ReleaseBlock();
            return false;
        }

        _message.From = _peer;
        _message.To = _transport.Member.Identity.MemberId;
        NativeBlock* block = _block;
        _block = null;
        _ = _transport.Member.Deliver(in _message, block);
        _message.SnapshotState = null;
        return true;
    }

    private void ReleaseBlock()
    {
        if (_block != null)
        {
            _transport.Member.Pool.Return(_block);
            _block = null;
        }
    }

    private static void Take(ref ReadOnlySequence<byte> buffer, Span<byte> into)
    {
        buffer.Slice(0, into.Length).CopyTo(into);
        buffer = buffer.Slice(into.Length);
    }
}

internal sealed partial class BulkReader
{
    /// <summary>Reads until the connection ends; returns why.</summary>
    public async Task<string> RunAsync()
    {
        PipeReader input = _connection.Input;
        string reason = "closed by the remote side";
        try
        {
            while (!IsClosed)
            {
                ReadResult result = await input.ReadAsync().ConfigureAwait(false);
                ReadOnlySequence<byte> buffer = result.Buffer;
                bool good = Consume(ref buffer);
                input.AdvanceTo(buffer.Start, buffer.End);
                if (!good)
                {
                    _counters.ReceiveFailed();
                    reason = "a frame that is damaged or cannot be understood on the bulk lane";
                    break;
                }

                if (result.IsCompleted)
                {
                    break;
                }
            }
        }
        catch (Exception e) when (e is SocketException or System.IO.IOException or InvalidOperationException
            or ObjectDisposedException or ConnectionAbortedException or ConnectionResetException)
        {
            reason = e.Message;
        }

        Close();
        ReleaseBlock();
        input.Complete();
        _connection.Output.Complete();
        return reason;
    }
}
