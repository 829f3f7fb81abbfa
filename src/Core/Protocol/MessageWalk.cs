// MessageWalk: validates a txn of any depth without recursion. Pure.
//
// Why        A request of 2 MiB can nest a quarter of a million levels. Recursion would overflow the stack of the
//            thread that serves it, which in .NET ends the process; so the open messages are kept on an explicit
//            stack. What a level needs is its kind and where it ends.
// Memory     Up to 128 levels live on the stack of the call; deeper requests borrow an array for its length.
using System;
using System.Buffers;

namespace Cairn.Core.Protocol;

/// <summary>Full-depth validation of the recursive messages.</summary>
internal static class MessageWalk
{
    private const int InlineLevels = 128;

    private enum Kind : byte
    {
        Txn,
        Op,
    }

    /// <summary>True if etcd 3.6 decodes the bytes as a TxnRequest.</summary>
    /// <param name="data">The message.</param>
    /// <param name="unusual">
    /// True if the bytes may not go into the log as they came: unknown or repeated fields, two members of a oneof,
    /// explicit empty bytes, odd varints. Meaningless when the result is false.
    /// </param>
    public static bool IsValidTxn(ReadOnlySpan<byte> data, out bool unusual)
    {
        unusual = false;
        Span<Level> levels = stackalloc Level[InlineLevels];
        Level[]? borrowed = null;
        int depth = 0;
        levels[0] = new Level(Kind.Txn, 0, data.Length);
        bool valid = true;
        while (depth >= 0)
        {
            ref Level level = ref levels[depth];
            var reader = new MessageReader(data[level.Position..level.End]);
            if (!reader.NextField())
            {
                if (reader.Failed)
                {
                    valid = false;
                    break;
                }

                depth--;
                continue;
            }

            bool isMessage = reader.Field <= (level.Kind == Kind.Txn ? 3 : 4);
            if (!isMessage)
            {
                reader.Skip();
                unusual = true;
                if (reader.Failed)
                {
                    valid = false;
                    break;
                }

                level.Position += reader.Position;
                continue;
            }

            ReadOnlySpan<byte> body = reader.ReadBytes();
            if (reader.Failed)
            {
                valid = false;
                break;
            }

            unusual |= reader.IsOddlyEncoded;
            level.Position += reader.Position;
            int bodyEnd = level.Position;
            bool fieldIsOdd = false;
            if (level.Kind == Kind.Txn)
            {
                if (reader.Field == 1)
                {
                    Compare compare = default;
                    valid = Compare.TryParse(body, ref compare, out fieldIsOdd);
                }
                else
                {
                    Push(ref levels, ref borrowed, ref depth, new Level(Kind.Op, bodyEnd - body.Length, bodyEnd));
                }
            }
            else
            {
                unusual |= level.HasMember; // a second member of the oneof
                level.HasMember = true;
                switch (reader.Field)
                {
                    case 1:
                        RangeRequest range = default;
                        valid = RangeRequest.TryParse(body, ref range, out fieldIsOdd);
                        break;
                    case 2:
                        PutRequest put = default;
                        valid = PutRequest.TryParse(body, ref put, out fieldIsOdd);
                        break;
                    case 3:
                        DeleteRangeRequest delete = default;
                        valid = DeleteRangeRequest.TryParse(body, ref delete, out fieldIsOdd);
                        break;
                    default:
                        Push(ref levels, ref borrowed, ref depth, new Level(Kind.Txn, bodyEnd - body.Length, bodyEnd));
                        break;
                }
            }

            unusual |= fieldIsOdd;
            if (!valid)
            {
                break;
            }
        }

        if (borrowed != null)
        {
            ArrayPool<Level>.Shared.Return(borrowed);
        }

        return valid;
    }

    private static void Push(ref Span<Level> levels, ref Level[]? borrowed, ref int depth, Level level)
    {
        depth++;
        if (depth == levels.Length)
        {
            Level[] larger = ArrayPool<Level>.Shared.Rent(levels.Length * 2);
            levels.CopyTo(larger);
            if (borrowed != null)
            {
                ArrayPool<Level>.Shared.Return(borrowed);
            }

            borrowed = larger;
            levels = larger;
        }

        levels[depth] = level;
    }

    /// <summary>An open message: the bytes not yet looked at are [Position, End) of the whole.</summary>
    private struct Level(Kind kind, int position, int end)
    {
        public readonly Kind Kind = kind;
        public readonly int End = end;
        public int Position = position;
        public bool HasMember;
    }
}
