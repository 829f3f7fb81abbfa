// RpcBuffer: bytes of one message that could not be read or written in place (it came in several pieces, or it
// is compressed). Owned by one call; rents from the shared pool, gives back at the end of the call.
using System;
using System.Buffers;
using System.IO;
using System.IO.Compression;

namespace Cairn.Net.Rpc;

/// <summary>A growable rented byte array.</summary>
internal sealed class RpcBuffer
{
    private byte[] _bytes = [];

    /// <summary>Bytes in use.</summary>
    public int Length { get; private set; }

    /// <summary>What has been written; valid until the next call that changes the buffer.</summary>
    public ReadOnlyMemory<byte> Written => _bytes.AsMemory(0, Length);

    /// <summary>Copies a sequence, replacing the content.</summary>
    public void Set(in ReadOnlySequence<byte> source)
    {
        Length = 0;
        Reserve((int)source.Length);
        source.CopyTo(_bytes);
        Length = (int)source.Length;
    }

    /// <summary>Adds bytes.</summary>
    public void Append(ReadOnlySpan<byte> part)
    {
        Reserve(part.Length);
        part.CopyTo(_bytes.AsSpan(Length));
        Length += part.Length;
    }

    /// <summary>Becomes the unpacked form of a gzip member.</summary>
    /// <param name="packed">The compressed message.</param>
    /// <param name="maxSize">Largest unpacked size accepted; unpacking stops there, whatever the input promises.</param>
    /// <returns>False when it would pass <paramref name="maxSize"/>.</returns>
    /// <exception cref="InvalidDataException">Not gzip, or cut short.</exception>
    public bool TryUnpack(byte[] packed, int maxSize)
    {
        Length = 0;
        using var source = new MemoryStream(packed, writable: false);
        using var gzip = new GZipStream(source, CompressionMode.Decompress);
        while (true)
        {
            Reserve(4096);
            int count = gzip.Read(_bytes, Length, Math.Min(_bytes.Length - Length, maxSize + 1 - Length));
            if (count == 0)
            {
                return true;
            }

            Length += count;
            if (Length > maxSize)
            {
                return false;
            }
        }
    }

    /// <summary>Becomes the gzip form of a message.</summary>
    public void Pack(ReadOnlySpan<byte> plain)
    {
        using var target = new MemoryStream();
        using (var gzip = new GZipStream(target, CompressionLevel.Fastest, leaveOpen: true))
        {
            gzip.Write(plain);
        }

        Clear();
        Append(target.GetBuffer().AsSpan(0, (int)target.Length));
    }

    /// <summary>Forgets the content but keeps the memory.</summary>
    public void Clear() => Length = 0;

    /// <summary>Gives the memory back to the pool.</summary>
    public void Release()
    {
        if (_bytes.Length != 0)
        {
            ArrayPool<byte>.Shared.Return(_bytes);
            _bytes = [];
        }

        Length = 0;
    }

    private void Reserve(int more)
    {
        if (_bytes.Length - Length >= more)
        {
            return;
        }

        byte[] larger = ArrayPool<byte>.Shared.Rent(Math.Max(Length + more, Math.Max(4096, _bytes.Length * 2)));
        _bytes.AsSpan(0, Length).CopyTo(larger);
        if (_bytes.Length != 0)
        {
            ArrayPool<byte>.Shared.Return(_bytes);
        }

        _bytes = larger;
    }
}
