// TlsWire: the socket under a TLS stream. Reads block; writes block, or go into a buffer that the writer thread empties with sends
// that take what the kernel has room for, so that encryption never waits for a peer.
//
// Thread     one reads, one writes, as SslStream itself. Async calls are for the bulk lane and HTTP, which never buffer.
using System;
using System.IO;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Base;

namespace Cairn.Net.Peer;

/// <summary>Bytes as they are on the network.</summary>
internal sealed class TlsWire(Socket socket, IClock clock) : Stream
{
    private byte[] _left = [];
    private int _start;
    private int _end;

    /// <summary>Until then reads may wait; 0 for as long as the socket itself allows.</summary>
    public long DeadlineNs { get; set; }

    /// <summary>Writes go into the buffer.</summary>
    public bool IsBuffered { get; set; }

    /// <summary>Bytes that wait in the buffer.</summary>
    public int Left => _end - _start;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Sends of the buffer what the kernel takes. False when the connection is gone.</summary>
    public bool Empty()
    {
        while (_start != _end)
        {
            int sent = SocketCalls.SendNow((int)socket.SafeHandle.DangerousGetHandle(), _left.AsSpan(_start, _end - _start));
            if (sent < 0)
            {
                return false;
            }

            if (sent == 0)
            {
                return true;
            }

            _start += sent;
        }

        _start = _end = 0;
        return true;
    }

    public override int Read(Span<byte> buffer)
    {
        if (DeadlineNs != 0)
        {
            long left = (DeadlineNs - clock.NowNs) / 1_000_000;
            if (left <= 0)
            {
                throw new SocketException((int)SocketError.TimedOut);
            }

            socket.ReceiveTimeout = (int)Math.Min(left, int.MaxValue);
        }

        return socket.Receive(buffer);
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        if (!IsBuffered)
        {
            while (!buffer.IsEmpty)
            {
                buffer = buffer[socket.Send(buffer)..];
            }

            return;
        }

        if (_left.Length - _end < buffer.Length)
        {
            byte[] room = new byte[Math.Max(2 * (_end - _start + buffer.Length), 32 << 10)];
            _left.AsSpan(_start, _end - _start).CopyTo(room);
            (_left, _end, _start) = (room, _end - _start, 0);
        }

        buffer.CopyTo(_left.AsSpan(_end));
        _end += buffer.Length;
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
        socket.ReceiveAsync(buffer, SocketFlags.None, cancellationToken);

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        while (!buffer.IsEmpty)
        {
            buffer = buffer[await socket.SendAsync(buffer, SocketFlags.None, cancellationToken).ConfigureAwait(false)..];
        }
    }

    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override void Flush()
    {
        // Nothing is held back but what Empty sends.
    }

    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            socket.Dispose();
        }

        base.Dispose(disposing);
    }
}
