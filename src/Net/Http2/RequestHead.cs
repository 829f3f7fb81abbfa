// RequestHead: the headers of one request while its block is decoded, checked by the rules of RFC 9113 section 8.
//
// Thread     the connection's loop; one object per loop, used for one block at a time. Values are copied, because they
//            may lie in scratch memory; what is larger than the limit is counted and dropped.
using System;

namespace Cairn.Net.Http2;

/// <summary>What a request says before its body.</summary>
internal sealed class RequestHead
{
    private const int Overhead = 32;
    private const int Names = (int)HeaderName.ClientApiVersion + 1;

    private readonly byte[] _bytes;
    private readonly (int Start, int Length)[] _values = new (int, int)[Names];
    private readonly int _limit;
    private int _used;
    private int _seen; // bit per name
    private long _listSize;
    private bool _regularSeen;

    /// <param name="limit">Largest header list in bytes, by HTTP/2's way of counting.</param>
    public RequestHead(int limit)
    {
        _limit = limit;
        _bytes = new byte[limit];
    }

    /// <summary>The list passed the limit.</summary>
    public bool IsTooLarge => _listSize > _limit;

    /// <summary>A rule of HTTP/2 was broken: the request must be refused with PROTOCOL_ERROR.</summary>
    public bool IsMalformed { get; private set; }

    /// <summary>Any pseudo header was there; trailers must have none.</summary>
    public bool HasPseudo => (_seen & ((1 << (int)HeaderName.Method) | (1 << (int)HeaderName.Path)
        | (1 << (int)HeaderName.Scheme) | (1 << (int)HeaderName.Authority))) != 0;

    /// <summary>The pseudo headers every request needs are there.</summary>
    public bool IsComplete => Has(HeaderName.Method) && Has(HeaderName.Path) && Has(HeaderName.Scheme)
        && !Get(HeaderName.Path).IsEmpty;

    /// <summary>Forgets the last request.</summary>
    public void Clear()
    {
        _used = 0;
        _seen = 0;
        _listSize = 0;
        _regularSeen = false;
        IsMalformed = false;
    }

    public bool Has(HeaderName name) => (_seen & (1 << (int)name)) != 0;

    /// <summary>First value of a header; empty when absent. Valid until <see cref="Clear"/>.</summary>
    public ReadOnlySpan<byte> Get(HeaderName name)
    {
        if (!Has(name))
        {
            return default;
        }

        (int start, int length) = _values[(int)name];
        return _bytes.AsSpan(start, length);
    }

    /// <summary>Takes the next header.</summary>
    public void Add(HeaderName known, ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        _listSize += name.Length + value.Length + Overhead;
        if (IsTooLarge)
        {
            return;
        }

        bool pseudo = known is HeaderName.Authority or HeaderName.Method or HeaderName.Path or HeaderName.Scheme;
        switch (known)
        {
            case HeaderName.BadPseudo or HeaderName.Forbidden:
                IsMalformed = true;
                return;
            case HeaderName.Te:
                IsMalformed |= !value.SequenceEqual("trailers"u8);
                break;
            case HeaderName.Other:
                IsMalformed |= !IsName(name);
                break;
            default:
                if (pseudo && (_regularSeen || Has(known)))
                {
                    IsMalformed = true;
                    return;
                }

                Keep(known, value);
                break;
        }

        _regularSeen |= !pseudo;
        IsMalformed |= value.IndexOfAny((byte)0, (byte)'\r', (byte)'\n') >= 0;
    }

    // Repeated headers: the first counts, as in the map of values that etcd reads.
    private void Keep(HeaderName known, ReadOnlySpan<byte> value)
    {
        if (Has(known))
        {
            return;
        }

        value.CopyTo(_bytes.AsSpan(_used));
        _values[(int)known] = (_used, value.Length);
        _used += value.Length;
        _seen |= 1 << (int)known;
    }

    // Lower case and visible, no colon: RFC 9113 section 8.2.1.
    private static bool IsName(ReadOnlySpan<byte> name)
        => !name.IsEmpty && !name.Contains((byte)':') && name.IndexOfAnyInRange((byte)0, (byte)0x20) < 0 && name.IndexOfAnyInRange((byte)'A', (byte)'Z') < 0
            && name.IndexOfAnyInRange((byte)0x7f, (byte)0xff) < 0;
}
