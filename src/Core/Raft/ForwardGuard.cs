// ForwardGuard: a forwarded proposal is appended at most once (R19). Owned by the core of the leader.
//
// Why        A network may deliver a frame twice. A forwarded proposal names its origin's boot number and a sequence
//            number of that boot, and the term in which the origin knew the leader. A leader accepts only proposals
//            addressed to its own term, so the guard begins empty with each term and still sees every copy.
// Memory     One window of the last 4096 numbers per (origin, boot). A number below the window counts as seen: the
//            outcome of a dropped proposal is unknown to its origin, which is always allowed.
using System;

namespace Cairn.Core.Raft;

internal sealed class ForwardGuard
{
    private const int WindowBits = 4096;
    private const int MaxWindows = 64;
    private readonly Window?[] _windows = new Window?[MaxWindows];
    private int _count;

    /// <summary>A new term: nothing addressed to it has been seen.</summary>
    public void Reset() => _count = 0;

    /// <summary>Marks a number as seen; false when it was before, or is too old to tell.</summary>
    public bool TryAccept(ulong origin, ulong boot, ulong sequence)
    {
        for (int i = 0; i < _count; i++)
        {
            if (_windows[i]!.Origin == origin && _windows[i]!.Boot == boot)
            {
                return _windows[i]!.TryAccept(sequence);
            }
        }

        if (_count == MaxWindows)
        {
            return false; // more restarts in one term than anybody needs: refusing is safe, forgetting is not
        }

        Window window = _windows[_count] ??= new Window();
        _count++;
        window.Start(origin, boot);
        return window.TryAccept(sequence);
    }

    private sealed class Window
    {
        private readonly ulong[] _bits = new ulong[WindowBits / 64];
        private ulong _highest;

        public ulong Origin { get; private set; }

        public ulong Boot { get; private set; }

        public void Start(ulong origin, ulong boot)
        {
            Origin = origin;
            Boot = boot;
            _highest = 0;
            Array.Clear(_bits);
        }

        public bool TryAccept(ulong sequence)
        {
            if (sequence == 0 || sequence + WindowBits <= _highest)
            {
                return false;
            }

            if (sequence > _highest)
            {
                if (sequence - _highest >= WindowBits)
                {
                    Array.Clear(_bits);
                }
                else
                {
                    for (ulong i = _highest + 1; i < sequence; i++)
                    {
                        _bits[i % WindowBits / 64] &= ~(1UL << (int)(i % 64));
                    }
                }

                _highest = sequence;
                _bits[sequence % WindowBits / 64] |= 1UL << (int)(sequence % 64);
                return true;
            }

            ulong mask = 1UL << (int)(sequence % 64);
            ref ulong word = ref _bits[sequence % WindowBits / 64];
            bool isNew = (word & mask) == 0;
            word |= mask;
            return isNew;
        }
    }
}
