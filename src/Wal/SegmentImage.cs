// SegmentImage: one segment read into native memory. Owned by the opening thread.
//
// Why        Entries point into the image, so recovery copies nothing; the zeros behind the used part are never
//            touched and so take no memory, although a prepared segment is 64 million bytes long.
using System;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>The bytes of a segment.</summary>
internal sealed unsafe class SegmentImage : IDisposable
{
    private byte* _data;

    private SegmentImage(string path, byte* data, int length, int usedEnd)
    {
        Path = path;
        _data = data;
        Length = length;
        UsedEnd = usedEnd;
    }

    ~SegmentImage() => NativeMemory.Free(_data);

    public string Path { get; }

    public byte* Data => _data;

    /// <summary>Length of the file.</summary>
    public int Length { get; }

    /// <summary>End of the last byte that is not zero.</summary>
    public int UsedEnd { get; }

    public ReadOnlySpan<byte> Bytes => new(_data, Length);

    public static SegmentImage Load(IFile file, string path)
    {
        long length = file.Length;
        if (length > WalFormat.MaxSegmentBytes)
        {
            throw new WalException($"{path}: {length} bytes is longer than any segment; is this a log of etcd?");
        }

        byte* data = (byte*)NativeMemory.AllocZeroed((nuint)Math.Max(length, 1));
        int usedEnd = 0;
        try
        {
            byte[] chunk = new byte[1 << 18];
            for (long at = 0; at < length; at += chunk.Length)
            {
                int want = (int)Math.Min(chunk.Length, length - at);
                Span<byte> bytes = chunk.AsSpan(0, want);
                int got = file.Read(at, bytes);
                if (got != want)
                {
                    throw new WalException($"{path}: only {got} of {want} bytes could be read at offset {at}; did another process change the file?");
                }

                int last = bytes.LastIndexOfAnyExcept((byte)0);
                if (last >= 0)
                {
                    bytes.CopyTo(new Span<byte>(data + at, want));
                    usedEnd = (int)at + last + 1;
                }
            }
        }
        catch
        {
            NativeMemory.Free(data);
            throw;
        }

        return new SegmentImage(path, data, (int)length, usedEnd);
    }

    /// <summary>An image of bytes at hand.</summary>
    public static SegmentImage Of(string path, ReadOnlySpan<byte> bytes)
    {
        byte* data = (byte*)NativeMemory.AllocZeroed((nuint)Math.Max(bytes.Length, 1));
        bytes.CopyTo(new Span<byte>(data, bytes.Length));
        return new SegmentImage(path, data, bytes.Length, bytes.LastIndexOfAnyExcept((byte)0) + 1);
    }

    /// <summary>Gives the memory to somebody else, who frees it with NativeMemory.Free.</summary>
    public byte* Detach()
    {
        byte* data = _data;
        _data = null;
        return data;
    }

    public void Dispose()
    {
        NativeMemory.Free(_data);
        _data = null;
        GC.SuppressFinalize(this);
    }
}
