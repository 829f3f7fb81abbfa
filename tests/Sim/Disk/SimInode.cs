// SimInode: one simulated file: what a running process sees, what a power cut would leave, and what lies between.
//
// Live       the page cache: every completed write is in it. Native memory that never moves once mapped.
// Durable    the platters: changed by a sync, or by luck.
// Pending    completed writes, length changes and holes that no sync has covered yet, in order.
// A sync makes durable exactly what was completed when it started. A failed sync throws its pages away as the kernel
// does: still live, no longer pending, never written.
using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Cairn.Simulation;

/// <summary>How kindly a power cut treats what was not synced.</summary>
internal enum Survival
{
    /// <summary>Nothing unsynced is left.</summary>
    Nothing,

    /// <summary>Everything completed, and in flight, is left.</summary>
    Everything,

    /// <summary>Each sector of each write by itself: kept, lost or torn; lengths by themselves.</summary>
    Sectors,

    /// <summary>Writes up to some point, the last one cut at a sector.</summary>
    Prefix,
}

internal abstract class SimNode;

internal sealed unsafe class SimInode : SimNode, IDisposable
{
    public const int SectorBytes = 512;

    private byte* _live;
    private long _capacity;
    private bool _mapped;
    private byte[] _durable = [];
    private List<Change> _pending = [];

    ~SimInode() => NativeMemory.Free(_live);

    public long Length { get; private set; }

    /// <summary>Locks held, by kind; owned by handles.</summary>
    public object?[] Locks { get; } = new object?[2];

    public int PendingCount => _pending.Count;

    public byte[] Durable => _durable;

    public int Read(long offset, Span<byte> buffer)
    {
        if (offset >= Length)
        {
            return 0;
        }

        int count = (int)Math.Min(buffer.Length, Length - offset);
        new ReadOnlySpan<byte>(_live + offset, count).CopyTo(buffer);
        return count;
    }

    public void Write(long offset, ReadOnlySpan<byte> data)
    {
        Reserve(offset + data.Length);
        data.CopyTo(new Span<byte>(_live + offset, data.Length));
        Length = Math.Max(Length, offset + data.Length);
        _pending.Add(new Change(ChangeKind.Write, offset, data.Length, data.ToArray()));
    }

    public void SetLength(long length)
    {
        Reserve(length);
        if (length < Length)
        {
            new Span<byte>(_live + length, checked((int)(Length - length))).Clear();
        }

        Length = length;
        _pending.Add(new Change(ChangeKind.Length, 0, length, []));
    }

    public void PunchHole(long offset, long length)
    {
        long end = Math.Min(offset + length, Length);
        if (offset < end)
        {
            new Span<byte>(_live + offset, checked((int)(end - offset))).Clear();
            _pending.Add(new Change(ChangeKind.Hole, offset, end - offset, []));
        }
    }

    public byte* Map(long reserve)
    {
        if (!_mapped)
        {
            long capacity = Math.Max(reserve, Length);
            byte* mapped = (byte*)NativeMemory.AllocZeroed((nuint)capacity);
            new ReadOnlySpan<byte>(_live, checked((int)Length)).CopyTo(new Span<byte>(mapped, checked((int)Length)));
            NativeMemory.Free(_live);
            _live = mapped;
            _capacity = capacity;
            _mapped = true;
        }

        return _live;
    }

    /// <summary>A new process has no maps: the next one may choose its own size.</summary>
    public void DropMap() => _mapped = false;

    /// <summary>Makes the first <paramref name="count"/> pending changes durable.</summary>
    public void Sync(int count)
    {
        for (int i = 0; i < count; i++)
        {
            Apply(ref _durable, _pending[i]);
        }

        _pending.RemoveRange(0, count);
    }

    /// <summary>The device refused: some sectors made it, the rest are lost although still readable.</summary>
    public void FailSync(int count, SimRandom random)
    {
        for (int i = 0; i < count; i++)
        {
            ApplyLuck(ref _durable, _pending[i], Survival.Sectors, random);
        }

        _pending.RemoveRange(0, count);
    }

    /// <summary>The file after a power cut.</summary>
    public SimInode AfterPowerLoss(Survival survival, SimRandom random)
    {
        byte[] image = (byte[])_durable.Clone();
        int prefix = survival == Survival.Prefix ? random.Below(_pending.Count + 1) : _pending.Count;
        for (int i = 0; i < _pending.Count; i++)
        {
            Survival luck = survival;
            if (survival == Survival.Prefix)
            {
                luck = i < prefix ? Survival.Everything : i == prefix ? Survival.Prefix : Survival.Nothing;
            }

            ApplyLuck(ref image, _pending[i], luck, random);
        }

        if (survival == Survival.Sectors && image.Length < Length && random.Chance(50))
        {
            // The size made it, the data behind it did not: zeros.
            Array.Resize(ref image, checked((int)Length));
        }

        var inode = new SimInode { _durable = image };
        inode.Reserve(image.Length);
        image.CopyTo(new Span<byte>(inode._live, image.Length));
        inode.Length = image.Length;
        return inode;
    }

    /// <summary>Rots one bit, at rest.</summary>
    public void FlipDurableBit(long offset, int bit)
    {
        SimCheck.That(_pending.Count == 0, "rot at rest hits a file with nothing unsynced");
        _durable[offset] ^= (byte)(1 << bit);
        _live[offset] ^= (byte)(1 << bit);
    }

    public void Dispose()
    {
        NativeMemory.Free(_live);
        _live = null;
        GC.SuppressFinalize(this);
    }

    private static void ApplyLuck(ref byte[] image, in Change change, Survival luck, SimRandom random)
    {
        switch (luck)
        {
            case Survival.Nothing:
                return;
            case Survival.Everything:
                Apply(ref image, change);
                return;
            case Survival.Sectors when change.Kind != ChangeKind.Write:
            case Survival.Prefix when change.Kind != ChangeKind.Write:
                if (random.Chance(50))
                {
                    Apply(ref image, change);
                }

                return;
            case Survival.Prefix:
                long kept = random.Below(change.Length + 1) / SectorBytes * SectorBytes;
                ApplyPart(ref image, change, 0, kept);
                return;
            default:
                ApplySectors(ref image, change, random);
                return;
        }
    }

    private static void ApplySectors(ref byte[] image, in Change change, SimRandom random)
    {
        int keepPercent = random.Below(4) switch { 0 => 10, 1 => 50, 2 => 90, _ => 99 };
        long at = 0;
        while (at < change.Length)
        {
            long inSector = (change.Offset + at) % SectorBytes;
            long length = Math.Min(SectorBytes - inSector, change.Length - at);
            if (random.Chance(keepPercent))
            {
                ApplyPart(ref image, change, at, length);
            }
            else if (random.Chance(10))
            {
                // Torn inside the sector: disks promise otherwise, file systems over other media do not.
                ApplyPart(ref image, change, at, random.Below(length));
            }

            at += length;
        }
    }

    private static void ApplyPart(ref byte[] image, in Change change, long from, long length)
    {
        if (length == 0)
        {
            return;
        }

        long end = change.Offset + from + length;
        if (image.Length < end)
        {
            Array.Resize(ref image, checked((int)end));
        }

        change.Data.AsSpan((int)from, (int)length).CopyTo(image.AsSpan((int)(change.Offset + from)));
    }

    private static void Apply(ref byte[] image, in Change change)
    {
        switch (change.Kind)
        {
            case ChangeKind.Write:
                ApplyPart(ref image, change, 0, change.Length);
                break;
            case ChangeKind.Length:
                Array.Resize(ref image, checked((int)change.Length));
                break;
            default:
                long end = Math.Min(change.Offset + change.Length, image.Length);
                if (change.Offset < end)
                {
                    image.AsSpan((int)change.Offset, (int)(end - change.Offset)).Clear();
                }

                break;
        }
    }

    private void Reserve(long length)
    {
        if (length <= _capacity)
        {
            return;
        }

        SimCheck.That(!_mapped, "the file grew beyond the reserve of its map");
        long capacity = Math.Max(length, Math.Max(4096, _capacity * 2));
        byte* grown = (byte*)NativeMemory.AllocZeroed((nuint)capacity);
        new ReadOnlySpan<byte>(_live, checked((int)Length)).CopyTo(new Span<byte>(grown, checked((int)Length)));
        NativeMemory.Free(_live);
        _live = grown;
        _capacity = capacity;
    }

    private enum ChangeKind : byte
    {
        Write,
        Length,
        Hole,
    }

    private readonly record struct Change(ChangeKind Kind, long Offset, long Length, byte[] Data);
}
