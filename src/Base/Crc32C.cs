// Crc32C: the Castagnoli checksum of the WAL, .snap files, HashKV and peer frames. Pure.
using System;
using System.Buffers.Binary;
using System.Numerics;

namespace Cairn.Base;

/// <summary>CRC-32C with the usual initial and final complement, extendable over parts.</summary>
public static class Crc32C
{
    /// <summary>Extends a finished checksum by more bytes: Append(Append(0, a), b) == Append(0, a+b).</summary>
    public static uint Append(uint crc, ReadOnlySpan<byte> data)
    {
        uint state = ~crc;
        while (data.Length >= 8)
        {
            state = BitOperations.Crc32C(state, BinaryPrimitives.ReadUInt64LittleEndian(data));
            data = data[8..];
        }

        foreach (byte b in data)
        {
            state = BitOperations.Crc32C(state, b);
        }

        return ~state;
    }

    /// <summary>Checksum of one piece.</summary>
    public static uint Compute(ReadOnlySpan<byte> data) => Append(0, data);
}
