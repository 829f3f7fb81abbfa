// RecentStreams: numbers of the last streams that something happened to, so that frames which come late can be told from frames
// that are wrong. Forgets the oldest; what is forgotten is judged more strictly. One connection's, not thread-safe.
using System;

namespace Cairn.Net.Http2;

/// <summary>A few stream numbers.</summary>
internal struct RecentStreams()
{
    private const int Max = 64;

    private readonly int[] _streams = new int[Max];
    private int _next;

    public void Add(int stream) => _streams[_next++ % Max] = stream;

    public readonly bool Contains(int stream) => _streams.AsSpan().Contains(stream);
}
