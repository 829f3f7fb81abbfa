// SemanticVersion: MAJOR.MINOR.PATCH as cluster and storage versions are written.
using System;
using System.Globalization;

namespace Cairn.Core.Membership;

/// <summary>A version; ordered by its numbers, a pre-release mark is kept out.</summary>
public readonly record struct SemanticVersion(int Major, int Minor, int Patch) : IComparable<SemanticVersion>
{
    /// <summary>Reads exactly three decimal numbers; anything behind '-' or '+' is dropped.</summary>
    public static bool TryParse(ReadOnlySpan<char> text, out SemanticVersion version)
    {
        version = default;
        int mark = text.IndexOfAny('-', '+');
        if (mark >= 0)
        {
            text = text[..mark];
        }

        Span<Range> parts = stackalloc Range[4];
        if (text.Split(parts, '.') != 3
            || !Number(text[parts[0]], out int major)
            || !Number(text[parts[1]], out int minor)
            || !Number(text[parts[2]], out int patch))
        {
            return false;
        }

        version = new SemanticVersion(major, minor, patch);
        return true;
    }

    /// <inheritdoc/>
    public int CompareTo(SemanticVersion other)
    {
        int result = Major.CompareTo(other.Major);
        result = result != 0 ? result : Minor.CompareTo(other.Minor);
        return result != 0 ? result : Patch.CompareTo(other.Patch);
    }

    public static bool operator <(SemanticVersion left, SemanticVersion right) => left.CompareTo(right) < 0;

    public static bool operator >(SemanticVersion left, SemanticVersion right) => left.CompareTo(right) > 0;

    public static bool operator <=(SemanticVersion left, SemanticVersion right) => left.CompareTo(right) <= 0;

    public static bool operator >=(SemanticVersion left, SemanticVersion right) => left.CompareTo(right) >= 0;

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Major}.{Minor}.{Patch}");

    private static bool Number(ReadOnlySpan<char> text, out int value) =>
        int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out value);
}
