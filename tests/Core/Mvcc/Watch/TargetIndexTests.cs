// The tree of ranges and the hash of keys against a list that is searched from end to end.
using System;
using System.Collections.Generic;
using System.Linq;
using Cairn.Core.Mvcc.Watch;
using CsCheck;
using Xunit;

namespace Cairn.Core.Tests.Mvcc.Watch;

public sealed class TargetIndexTests
{
    [Fact]
    public void Stab_AfterAnyAddsAndRemoves_FindsWhatAListFinds() => Gen.Int.Sample(Run, iter: 300);

    private static unsafe void Run(int seed)
    {
        var random = new Random(seed);
        using var index = new TargetIndex((ulong)seed);
        var model = new Dictionary<int, (byte[] Key, byte[] End, int EndLength)>();
        var found = default(Scratch<int>);
        int alphabet = random.Next(1, 5);
        for (int step = 0; step < 400; step++)
        {
            if (random.Next(3) != 0 || model.Count == 0)
            {
                byte[] key = Key(random, alphabet);
                byte[] end = Key(random, alphabet);
                int kind = random.Next(4);
                int length = kind == 0 ? WatchTarget.SingleKey : kind == 1 ? WatchTarget.OpenEnd : end.Length;
                if (length > 0 && key.AsSpan().SequenceCompareTo(end) >= 0)
                {
                    continue;
                }

                byte[] kept = length > 0 ? end : [];
                int at = index.Add(key, kept, length);
                bool known = model.Values.Any(t => t.EndLength == length && t.Key.SequenceEqual(key) && t.End.SequenceEqual(kept));
                Assert.Equal(known, model.ContainsKey(at));
                model[at] = (key, kept, length);
            }
            else
            {
                int victim = model.Keys.ElementAt(random.Next(model.Count));
                index.Remove(victim);
                model.Remove(victim);
            }

            byte[] asked = Key(random, alphabet);
            found.Count = 0;
            index.Stab(asked, ref found);
            int[] ranges = model.Where(p => p.Value.EndLength != WatchTarget.SingleKey && Contains(p.Value, asked)).Select(p => p.Key).Order().ToArray();
            Assert.Equal(ranges, found.Span.ToArray().Order().ToArray());
            int exact = model.FirstOrDefault(p => p.Value.EndLength == WatchTarget.SingleKey && p.Value.Key.SequenceEqual(asked)).Key;
            Assert.Equal(exact, index.Find(asked));
            Assert.Equal(model.Count, index.Count);
        }

        found.Free();
    }

    private static bool Contains((byte[] Key, byte[] End, int EndLength) target, byte[] key)
        => target.Key.AsSpan().SequenceCompareTo(key) <= 0
            && (target.EndLength == WatchTarget.OpenEnd || target.End.AsSpan().SequenceCompareTo(key) > 0);

    private static byte[] Key(Random random, int alphabet)
    {
        byte[] key = new byte[random.Next(1, 5)];
        for (int i = 0; i < key.Length; i++)
        {
            key[i] = (byte)('a' + random.Next(alphabet));
        }

        return key;
    }
}
