// The HPACK decoder against an encoder with a table of its own (RFC 7541 sections 2.3, 4, 6), for any choice of representations
// that an encoder may make; and against noise.
using System;
using System.Collections.Generic;
using System.Text;
using Cairn.Net.Http2;
using CsCheck;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class HpackModelTests
{
    private static readonly string[] s_names =
    [
        "token", "authorization", "content-type", "grpc-timeout", "client-api-version", "x-a", "x-b", "x-a-rather-long-name-of-a-header", "te",
    ];

    private enum How
    {
        Indexed,
        Incremental,
        Without,
        Never,
    }

    [Fact]
    public void Blocks_EncodedInAnyWay_AreReadAsTheyWereMeant()
    {
        Gen<string> value = Gen.OneOf(
            Gen.Char[' ', '~'].Array[0, 30].Select(c => new string(c)), Gen.OneOfConst("", "trailers", "a", "b"),
            Gen.Select(Gen.Char['a', 'z'], Gen.Int[100, 1500]).Select((c, n) => new string(c, n)));
        Gen<(string Name, string Value, How How, bool ByIndex)> header = Gen.Select(
            Gen.OneOfConst(s_names), value, Gen.Enum<How>(), Gen.Bool);
        Gen<int> size = Gen.Frequency((6, Gen.Const(-1)), (1, Gen.Int[0, 300]), (1, Gen.Const(4096)));
        Gen.Select(size, header.Array[0, 12]).Array[1, 25].Sample(blocks =>
        {
            var decoder = new HpackDecoder();
            var encoder = new Encoder();
            var head = new RequestHead(65536);
            byte[] scratch = new byte[70_000 * 2];
            foreach ((int resize, (string, string, How, bool)[] headers) in blocks)
            {
                byte[] block = encoder.Encode(resize, headers);
                head.Clear();
                Assert.True(decoder.TryDecode(block, scratch, head));
                foreach ((string name, string text, _, _) in headers)
                {
                    if (HeaderNames.Find(Encoding.ASCII.GetBytes(name)) is var known and not (HeaderName.Other or HeaderName.Te))
                    {
                        string first = Array.Find(headers, h => h.Item1 == name).Item2;
                        Assert.Equal(first, Encoding.ASCII.GetString(head.Get(known)));
                    }
                }

                Assert.Equal((encoder.Table.Count, encoder.Size), (decoder.Table.Count, decoder.Table.Size));
                for (int i = 0; i < encoder.Table.Count; i++)
                {
                    Assert.True(decoder.Table.TryGet(i, out _, out ReadOnlySpan<byte> name, out ReadOnlySpan<byte> text));
                    Assert.Equal(encoder.Table[i], (Encoding.ASCII.GetString(name), Encoding.ASCII.GetString(text)));
                }
            }
        }, iter: 400);
    }

    [Fact]
    public void Noise_AsABlock_IsReadOrRefused_AndKeepsTheTableInItsBounds()
    {
        Gen.Byte.Array[0, 400].Array[1, 6].Sample(blocks =>
        {
            var decoder = new HpackDecoder();
            var head = new RequestHead(65536);
            byte[] scratch = new byte[16_384];
            foreach (byte[] block in blocks)
            {
                head.Clear();
                if (!decoder.TryDecode(block, scratch, head))
                {
                    break;
                }

                Assert.InRange(decoder.Table.Size, 0, HpackTable.Limit);
            }
        }, iter: 20_000);
    }

    private sealed class Encoder
    {
        private readonly List<byte> _block = [];
        private int _max = HpackTable.Limit;

        /// <summary>Newest first.</summary>
        public List<(string Name, string Value)> Table { get; } = [];

        public int Size
        {
            get
            {
                int size = 0;
                foreach ((string name, string value) in Table)
                {
                    size += name.Length + value.Length + 32;
                }

                return size;
            }
        }

        public byte[] Encode(int resize, (string Name, string Value, How How, bool ByIndex)[] headers)
        {
            _block.Clear();
            if (resize >= 0)
            {
                _max = resize;
                Integer(0x20, 5, resize);
                Evict(0);
            }

            foreach ((string name, string value, How how, bool byIndex) in headers)
            {
                int same = Table.IndexOf((name, value));
                if (how == How.Indexed && same >= 0)
                {
                    Integer(0x80, 7, 62 + same);
                    continue;
                }

                (byte first, int bits) = how switch
                {
                    How.Without => ((byte)0x00, 4),
                    How.Never => ((byte)0x10, 4),
                    _ => ((byte)0x40, 6),
                };
                int named = byIndex ? Table.FindIndex(e => e.Name == name) : -1;
                int index = named >= 0 ? 62 + named : byIndex && name == "content-type" ? 31 : byIndex && name == "authorization" ? 23 : 0;
                Integer(first, bits, index);
                if (index == 0)
                {
                    String(name);
                }

                String(value);
                if (bits == 6)
                {
                    int size = name.Length + value.Length + 32;
                    Evict(size);
                    if (size <= _max)
                    {
                        Table.Insert(0, (name, value));
                    }
                }
            }

            return [.. _block];
        }

        private void Evict(int room)
        {
            while (Table.Count > 0 && Size + room > _max)
            {
                Table.RemoveAt(Table.Count - 1);
            }
        }

        private void String(string text)
        {
            Integer(0, 7, text.Length);
            _block.AddRange(Encoding.ASCII.GetBytes(text));
        }

        private void Integer(byte first, int bits, int value)
        {
            int limit = (1 << bits) - 1;
            if (value < limit)
            {
                _block.Add((byte)(first | value));
                return;
            }

            _block.Add((byte)(first | limit));
            for (value -= limit; value >= 128; value >>= 7)
            {
                _block.Add((byte)(value | 128));
            }

            _block.Add((byte)value);
        }
    }
}
