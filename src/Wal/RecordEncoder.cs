// RecordEncoder: turns records into frames in one native buffer, carrying the running checksum.
//
// Why        One contiguous buffer makes one write of a batch; the payload is copied once while it is in cache for
//            the checksum anyway. Native, so that a growing batch never troubles the collector.
// Thread     its owner's: the opening thread during recovery, then wal.
// Invariants Length is a multiple of 8; Crc covers the data of every record appended since the log began.
using System;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Cairn.Base;

namespace Cairn.Wal;

/// <summary>Encodes frames; allocation-free once the buffer has its size.</summary>
internal sealed unsafe class RecordEncoder : IDisposable
{
    private const int KeepBytes = 16 << 20;
    private const int HeadBytes = 64; // longest head of an entry, state or snapshot record, with room to spare

    private byte* _buffer;
    private int _capacity;

    public RecordEncoder(int capacity)
    {
        _buffer = (byte*)NativeMemory.Alloc((nuint)capacity);
        _capacity = capacity;
    }

    ~RecordEncoder() => NativeMemory.Free(_buffer);

    /// <summary>Start of the frames; moves when the buffer grows.</summary>
    public byte* Data => _buffer;

    /// <summary>Bytes of frames so far.</summary>
    public int Length { get; private set; }

    /// <summary>The running checksum after the last frame.</summary>
    public uint Crc { get; private set; }

    public ReadOnlySpan<byte> Written => new(_buffer, Length);

    /// <summary>The most a record with so many data bytes can take as a frame.</summary>
    public static long MaxFrameBytes(long dataLength) => dataLength + 32;

    /// <summary>The most an entry can take as a frame.</summary>
    public static long MaxEntryBytes(long payloadLength) => payloadLength + HeadBytes + 32;

    /// <summary>Forgets the frames and continues from a checksum.</summary>
    public void Begin(uint crc)
    {
        Length = 0;
        Crc = crc;
        if (_capacity > KeepBytes)
        {
            Resize(KeepBytes);
        }
    }

    public void Dispose()
    {
        NativeMemory.Free(_buffer);
        _buffer = null;
        GC.SuppressFinalize(this);
    }

    public void AppendEntry(in WalEntry entry)
    {
        byte* head = stackalloc byte[HeadBytes];
        head[0] = 0x08;
        head[1] = entry.Type;
        head[2] = 0x10;
        byte* end = Varint(head + 3, entry.Term);
        *end++ = 0x18;
        end = Varint(end, entry.Index);
        if (entry.Length != 0)
        {
            *end++ = 0x22;
            end = Varint(end, (uint)entry.Length);
        }

        Append(RecordType.Entry, head, (int)(end - head), entry.Data, entry.Length);
    }

    /// <summary>A hard state with our mark (see <see cref="WalFormat.SyncedUpToField"/>).</summary>
    /// <param name="state">The state.</param>
    /// <param name="syncedUpTo">The mark.</param>
    /// <param name="repeatsFrom">See <see cref="WalFormat.RepeatsFromField"/>; -1 everywhere but in such a head.</param>
    public void AppendState(in WalHardState state, long syncedUpTo, long repeatsFrom = -1)
    {
        byte* head = stackalloc byte[HeadBytes];
        *head = 0x08;
        byte* end = Varint(head + 1, state.Term);
        *end++ = 0x10;
        end = Varint(end, state.Vote);
        *end++ = 0x18;
        end = Varint(end, state.Commit);
        end = Varint(end, (WalFormat.SyncedUpToField << 3) | (uint)WireType.Varint);
        end = Varint(end, (ulong)syncedUpTo);
        if (repeatsFrom >= 0)
        {
            end = Varint(end, (WalFormat.RepeatsFromField << 3) | (uint)WireType.Varint);
            end = Varint(end, (ulong)repeatsFrom);
        }

        Append(RecordType.State, head, (int)(end - head), null, 0);
    }

    /// <summary>A snapshot record; the ConfState is left out when empty.</summary>
    public void AppendSnapshot(ulong index, ulong term, byte* confState, int confStateLength)
    {
        byte* head = stackalloc byte[HeadBytes];
        *head = 0x08;
        byte* end = Varint(head + 1, index);
        *end++ = 0x10;
        end = Varint(end, term);
        if (confStateLength != 0)
        {
            *end++ = 0x1a;
            end = Varint(end, (uint)confStateLength);
        }

        Append(RecordType.Snapshot, head, (int)(end - head), confState, confStateLength);
    }

    /// <summary>A record whose data is given as it stands.</summary>
    public void AppendRaw(RecordType type, ReadOnlySpan<byte> data)
    {
        fixed (byte* bytes = data)
        {
            Append(type, null, 0, bytes, data.Length);
        }
    }

    /// <summary>The record that opens a segment: no data, the checksum so far.</summary>
    public void AppendCrc()
    {
        int recordLength = 3 + ProtoSize.Varint(Crc);
        byte* at = Frame(recordLength);
        at[0] = 0x08;
        at[1] = (byte)RecordType.Crc;
        at[2] = 0x10;
        Varint(at + 3, Crc);
    }

    private void Append(RecordType type, byte* head, int headLength, byte* payload, int payloadLength)
    {
        uint crc = Crc32C.Append(Crc, new ReadOnlySpan<byte>(head, headLength));
        crc = Crc32C.Append(crc, new ReadOnlySpan<byte>(payload, payloadLength));
        Crc = crc;
        int dataLength = checked(headLength + payloadLength);
        int recordLength = checked(4 + ProtoSize.Varint(crc) + ProtoSize.Varint((uint)dataLength) + dataLength);
        byte* at = Frame(recordLength);
        at[0] = 0x08;
        at[1] = (byte)type;
        at[2] = 0x10;
        at = Varint(at + 3, crc);
        *at++ = 0x1a;
        at = Varint(at, (uint)dataLength);
        Unsafe.CopyBlockUnaligned(at, head, (uint)headLength);
        Unsafe.CopyBlockUnaligned(at + headLength, payload, (uint)payloadLength);
    }

    /// <summary>Takes room for a frame, writes its length word and padding, returns where the record goes.</summary>
    private byte* Frame(int recordLength)
    {
        int padding = -recordLength & 7;
        int frame = checked(WalFormat.FrameHeaderBytes + recordLength + padding);
        if (_capacity - Length < frame)
        {
            Resize((int)Math.Min(Array.MaxLength, Math.Max(checked((long)Length + frame), _capacity * 2L)));
        }

        byte* at = _buffer + Length;
        Length = checked(Length + frame);

        // The last word first: the record overwrites all of it but the padding.
        Unsafe.WriteUnaligned(at + frame - 8, 0UL);
        ulong word = (ulong)(uint)recordLength | (padding == 0 ? 0 : (ulong)(0x80 | padding) << 56);
        BinaryPrimitives.WriteUInt64LittleEndian(new Span<byte>(at, 8), word);
        return at + WalFormat.FrameHeaderBytes;
    }

    private static byte* Varint(byte* at, ulong value)
    {
        while (value >= 0x80)
        {
            *at++ = (byte)(value | 0x80);
            value >>= 7;
        }

        *at++ = (byte)value;
        return at;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Resize(int capacity)
    {
        Invariant.Check(capacity >= Length, "a batch fits one buffer");
        _buffer = (byte*)NativeMemory.Realloc(_buffer, (nuint)capacity);
        _capacity = capacity;
    }
}
