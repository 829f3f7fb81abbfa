// PlainWal: a slow, obvious reader of the entries of a WAL directory; no checksums, no repair, no code of src/Wal.
using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using Cairn.Base;

namespace Cairn.Core.Tests.Support;

internal sealed record PlainEntry(int Type, ulong Term, ulong Index, byte[] Data);

internal static class PlainWal
{
    public static List<PlainEntry> ReadEntries(string directory)
    {
        var entries = new List<PlainEntry>();
        string[] files = Directory.GetFiles(directory, "*.wal");
        Array.Sort(files, StringComparer.Ordinal);
        foreach (string file in files)
        {
            using FileStream stream = File.OpenRead(file);
            byte[] word = new byte[8];
            while (stream.ReadAtLeast(word, 8, throwOnEndOfStream: false) == 8)
            {
                ulong header = BinaryPrimitives.ReadUInt64LittleEndian(word);
                int length = (int)(header & 0x00ff_ffff_ffff_ffff);
                if (length == 0)
                {
                    break;
                }

                int padding = (header >> 63) == 1 ? (int)((header >> 56) & 7) : 0;
                byte[] record = new byte[length + padding];
                stream.ReadExactly(record);
                TakeRecord(record.AsSpan(0, length), entries);
            }
        }

        return entries;
    }

    private static void TakeRecord(ReadOnlySpan<byte> record, List<PlainEntry> entries)
    {
        ulong type = 0;
        ReadOnlySpan<byte> data = default;
        var reader = new ProtoReader(record);
        while (reader.NextField())
        {
            switch (reader.Field)
            {
                case 1:
                    type = reader.ReadVarint();
                    break;
                case 3:
                    data = reader.ReadBytes();
                    break;
                default:
                    reader.Skip();
                    break;
            }
        }

        if (type != 2)
        {
            return;
        }

        ulong[] numbers = new ulong[4];
        byte[] payload = [];
        reader = new ProtoReader(data);
        while (reader.NextField())
        {
            if (reader.Field == 4)
            {
                payload = reader.ReadBytes().ToArray();
            }
            else
            {
                numbers[reader.Field] = reader.ReadVarint();
            }
        }

        var entry = new PlainEntry((int)numbers[1], numbers[2], numbers[3], payload);
        while (entries.Count > 0 && entries[^1].Index >= entry.Index)
        {
            entries.RemoveAt(entries.Count - 1);
        }

        entries.Add(entry);
    }
}
